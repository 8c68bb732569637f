import { once } from 'node:events';
import { Socket } from 'node:net';
import type { TestBroker } from './brokers.js';

/** Properties of a message in the order of their flags (AMQP 0-9-1, basic class), as bytes. */
export interface RawProperties {
  /** The contents of the table of headers. */
  headers?: Buffer;
  correlationId?: Buffer;
  replyTo?: Buffer;
  messageId?: Buffer;
  /** 64 bits. */
  timestamp?: bigint;
}

/** Publishes a message whose properties amqplib itself would not write. */
export async function publishRaw(
  broker: TestBroker,
  queue: string,
  body: string,
  { headers, correlationId, replyTo, messageId, timestamp }: RawProperties,
): Promise<void> {
  const connection = await broker.open();
  await connection.createChannel();
  const stream: unknown = Reflect.get(connection.connection, 'stream');
  if (!(stream instanceof Socket)) throw new Error('it is a real connection that writes bytes');
  const content = Buffer.from(body);
  const parts: [flag: number, bytes: Buffer | undefined][] = [
    [0x2000, headers && longString(headers)],
    [0x0400, correlationId && shortString(correlationId)],
    [0x0200, replyTo && shortString(replyTo)],
    [0x0080, messageId && shortString(messageId)],
    [0x0040, timestamp === undefined ? undefined : uint64(timestamp)],
  ];
  const there = parts.filter(([, bytes]) => bytes !== undefined);
  const flags = there.reduce((sum, [flag]) => sum | flag, 0);
  const basicPublish = Buffer.concat([
    uint16(60),
    uint16(40),
    uint16(0),
    shortString(Buffer.alloc(0)),
    shortString(Buffer.from(queue)),
    Buffer.from([0]),
  ]);
  const header = Buffer.concat([
    uint16(60),
    uint16(0),
    uint64(BigInt(content.length)),
    uint16(flags),
    ...there.map(([, bytes = Buffer.alloc(0)]) => bytes),
  ]);
  stream.write(Buffer.concat([frame(1, basicPublish), frame(2, header), frame(3, content)]));
  // A response of the broker on the same connection shows that it has the message.
  await (await connection.createChannel()).close();
  await Promise.all([once(connection, 'close'), connection.close()]);
}

/** One field of a table of headers. */
export function headerField(name: string | Buffer, type: string, value: Buffer): Buffer {
  return Buffer.concat([shortString(Buffer.from(name)), Buffer.from(type), value]);
}

export function longString(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function shortString(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** A frame on the first channel. */
function frame(type: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 0, 1]), longString(payload), Buffer.from([0xce])]);
}
