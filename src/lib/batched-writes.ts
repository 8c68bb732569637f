import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';

/**
 * Makes a log send all lines of one turn of the event loop with one system call: with many small lines, these calls take
 * most of the CPU time.
 * @param beforeSend is called before each of these calls
 */
export function batchLines(stream: Writable, beforeSend: () => void): void {
  const write: Writable['write'] = stream.write.bind(stream);
  let corked = false;
  const corkOnce = () => {
    if (corked) return;
    corked = true;
    stream.cork();
    process.nextTick(() => {
      corked = false;
      beforeSend();
      stream.uncork();
    });
  };
  stream.write = (...written: unknown[]) => {
    corkOnce();
    return Reflect.apply(write, stream, written);
  };
}

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
