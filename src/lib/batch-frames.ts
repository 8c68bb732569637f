import type { Socket } from 'node:net';

/**
 * Makes a socket send all buffers that are written in one turn of the event loop as one: amqplib writes each frame
 * separately. That takes one system call, and with TLS one record, and less than to send them as a list.
 */
export function batchFrames(socket: Socket): void {
  const write: (bytes: Uint8Array) => boolean = socket.write.bind(socket);
  const end: Socket['end'] = socket.end.bind(socket);
  let frames: Uint8Array[] = [];
  let bytes = 0;
  let wasRefused = false;

  const send = () => {
    const [first] = frames;
    if (first === undefined) return;
    const all = frames.length === 1 ? first : Buffer.concat(frames, bytes);
    frames = [];
    bytes = 0;
    const isAwaited = wasRefused;
    wasRefused = false;
    // Otherwise the socket does it when it has sent enough. Who listens may write, and be refused, again.
    if (write(all) && isAwaited) socket.emit('drain');
  };

  socket.write = (frame: unknown, ...more: unknown[]): boolean => {
    if (!(frame instanceof Uint8Array) || more.some((each) => typeof each === 'function')) {
      send();
      return Reflect.apply(write, socket, [frame, ...more]);
    }
    if (frames.push(frame) === 1) process.nextTick(send);
    bytes += frame.length;
    const accepts = bytes + socket.writableLength < socket.writableHighWaterMark;
    if (!accepts) wasRefused = true;
    return accepts;
  };
  socket.end = (...last: unknown[]): Socket => {
    send();
    return Reflect.apply(end, socket, last);
  };
}
