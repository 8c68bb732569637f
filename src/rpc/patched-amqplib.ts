import { createRequire } from 'node:module';
import type { Writable } from 'node:stream';
import type { connect as amqplibConnect, credentials as amqplibCredentials } from 'amqplib';
import { loadCodec, loadConnection } from './amqplib-files.js';
import { cut, LARGE_BODY } from './body-in-pieces.js';

/** The only header of a message whose headers cannot be decoded. */
export const UNREADABLE = Symbol('unreadable headers');

const FRAME_HEADER_BYTES = 7;
const BODY_FRAME = 3;
const FRAME_END = Buffer.from([0xce]);

const require = createRequire(import.meta.url);

type Fields = Record<string | symbol, unknown>;

/** The broker does not offer the mechanism of a login; the message says which ones it offers. */
export class MechanismNotOffered extends Error {
  override readonly name = 'MechanismNotOffered';

  constructor(offered: readonly string[]) {
    super(`the broker offers ${offered.join(', ') || 'none'}`);
  }
}

interface Frame {
  id?: number;
  fields?: { mechanisms?: Buffer; replyCode?: number; replyText?: string };
}
type OnFrame = (error: unknown, frame?: Frame) => void;
type OnOpen = (error: unknown, ok?: unknown) => void;
interface AmqplibConnection {
  stream: Writable;
  frameMax: number;
  channels: { buffer: Writable }[];
  sendContent: (channel: number, body: Buffer) => boolean;
  step: (next: OnFrame) => void;
  open: (fields: { mechanism: string }, done: OnOpen) => void;
}

/**
 * amqplib's errors of a refused login tell neither the mechanisms that the broker offers, nor its reason to refuse a virtual
 * host. Both are in frames that amqplib has read.
 */
function explainRefusals(connection: AmqplibConnection): void {
  const { open, step } = connection;
  connection.open = function (this: AmqplibConnection, fields, done) {
    let offered: string[] | undefined;
    let reason: string | undefined;
    this.step = (next) =>
      Reflect.apply(step, this, [
        (error: unknown, frame?: Frame) => {
          offered = frame?.fields?.mechanisms?.toString().split(' ').filter(Boolean) ?? offered;
          reason = frame?.fields?.replyText ?? reason;
          next(error, frame);
        },
      ]);
    Reflect.apply(open, this, [
      fields,
      (error: unknown, ok?: unknown) => {
        this.step = step;
        if (offered !== undefined && !offered.includes(fields.mechanism))
          done(new MechanismNotOffered(offered));
        else if (reason !== undefined && error instanceof Error && !error.message.includes(reason))
          done(new Error(reason, { cause: error }));
        else done(error, ok);
      },
    ]);
  };
}

/** A frame with a part of a large body (AMQP 0-9-1, 4.2.3). */
class LargeFrame {
  readonly pieces: readonly Buffer[];

  constructor(channel: number, part: readonly Buffer[]) {
    const header = Buffer.alloc(FRAME_HEADER_BYTES);
    header.writeUInt8(BODY_FRAME, 0);
    header.writeUInt16BE(channel, 1);
    header.writeUInt32BE(
      part.reduce((sum, { length }) => sum + length, 0),
      3,
    );
    this.pieces = [header, ...part, FRAME_END];
  }
}

/**
 * amqplib copies the whole body of a message into frames at once. A large body is not copied: its frames pass through amqplib's queues
 * as they are, and their pieces are written to the socket.
 */
function sendLargeBodiesInPieces(connection: AmqplibConnection): void {
  const { open, sendContent } = connection;
  connection.open = function (this: AmqplibConnection, ...given) {
    writeLargeFrames(this.stream);
    return Reflect.apply(open, this, given);
  };
  connection.sendContent = function (this: AmqplibConnection, channel, body) {
    const buffer = this.channels[channel]?.buffer;
    if (body.length < LARGE_BODY || buffer === undefined)
      return Reflect.apply(sendContent, this, [channel, body]);
    let hasRoom = true;
    for (const part of cut(body, this.frameMax - FRAME_HEADER_BYTES - FRAME_END.length))
      hasRoom = buffer.write(new LargeFrame(channel, part));
    return hasRoom;
  };
}

function writeLargeFrames(stream: Writable): void {
  const write: Writable['write'] = stream.write.bind(stream);
  stream.write = (chunk: unknown, ...rest: unknown[]) => {
    if (!(chunk instanceof LargeFrame)) return Reflect.apply(write, stream, [chunk, ...rest]);
    stream.cork();
    let hasRoom = true;
    for (const piece of chunk.pieces) hasRoom = write(piece);
    stream.uncork();
    return hasRoom;
  };
}

/**
 * amqplib closes the connection when it cannot decode the headers of a message: headers nested too deeply for its
 * recursive decoder, or of a type that RabbitMQ accepts but amqplib does not know. The broker would deliver the message
 * again and again, and every worker would lose its connection. So the decoder is wrapped before amqplib's other modules
 * load it.
 */
function loadAmqplib(): { connect: typeof amqplibConnect; credentials: typeof amqplibCredentials } {
  const codec: { decodeFields: (slice: Buffer) => Fields } = loadCodec();
  const { decodeFields } = codec;
  codec.decodeFields = (slice) => {
    try {
      return decodeFields(slice);
    } catch {
      return { [UNREADABLE]: true };
    }
  };
  const { Connection }: { Connection: { prototype: AmqplibConnection } } = loadConnection();
  explainRefusals(Connection.prototype);
  sendLargeBodiesInPieces(Connection.prototype);
  return require('amqplib');
}

export const { connect, credentials } = loadAmqplib();
