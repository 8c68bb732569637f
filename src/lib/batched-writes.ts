import type { Writable } from 'node:stream';

/**
 * Makes a socket send everything that is written in one turn of the event loop with one system call. amqplib writes
 * each frame separately and a log writes each line separately: with many small messages, these system calls take most
 * of the CPU time.
 * @param beforeSend is called before each of these calls
 */
export function batchWrites(socket: Writable, beforeSend: () => void = () => {}): void {
  const write: Writable['write'] = socket.write.bind(socket);
  let corked = false;
  const corkOnce = () => {
    if (corked) return;
    corked = true;
    socket.cork();
    process.nextTick(() => {
      corked = false;
      beforeSend();
      socket.uncork();
    });
  };
  socket.write = (...written: unknown[]) => {
    corkOnce();
    return Reflect.apply(write, socket, written);
  };
}
