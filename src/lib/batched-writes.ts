import type { Writable } from 'node:stream';

/**
 * Sends everything that is written to a socket in one turn of the event loop with one system call. amqplib writes each
 * frame alone, a log each line; with many small messages these calls are most of the work.
 */
export function batchWrites(socket: Writable): void {
  const write: Writable['write'] = socket.write.bind(socket);
  let corked = false;
  const corkOnce = () => {
    if (corked) return;
    corked = true;
    socket.cork();
    process.nextTick(() => {
      corked = false;
      socket.uncork();
    });
  };
  socket.write = (...written: unknown[]) => {
    corkOnce();
    return Reflect.apply(write, socket, written);
  };
}
