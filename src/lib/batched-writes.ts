import type { Writable } from 'node:stream';

/**
 * Lets a socket send what is written to it in one turn of the event loop with one system call. amqplib writes each
 * frame by itself, a log each line, and with many small messages those calls are most of the work.
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
