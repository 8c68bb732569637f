import { inflateSync } from 'node:zlib';
import { DecodeError } from './codec.js';
import { COMPRESSED } from './erlang-tags.js';

const SIZE_AT = 2;

/** The size that a compressed body declares for its term, in bytes; undefined when the body is not compressed. */
export function inflatedSize(body: Uint8Array): number | undefined {
  if (body[1] !== COMPRESSED || body.length < SIZE_AT + 4) return undefined;
  return new DataView(body.buffer, body.byteOffset, body.byteLength).getUint32(SIZE_AT);
}

/**
 * Inflates the part after the tag of a compressed term: the inflated size (uint32) and a zlib stream. Throws
 * `DecodeError` when the term declares more than `limit` bytes, or as soon as the output exceeds the declared size. So
 * `limit` bounds work and memory.
 */
export function inflateTerm(compressed: Buffer, limit: number): Buffer {
  if (compressed.length < 4) throw new DecodeError('the term is cut short');
  const size = compressed.readUInt32BE(0);
  if (size > limit) throw new DecodeError(`the compressed term is larger than ${limit} bytes`);
  if (size === 0) throw new DecodeError('the compressed term is empty');
  const stream = compressed.subarray(4);
  const { buffer, consumed } = inflate(stream, size);
  if (buffer.length !== size) throw new DecodeError('the compressed term is smaller than it declares');
  if (consumed !== stream.length) throw new DecodeError('bytes follow the compressed term');
  return buffer;
}

function inflate(stream: Buffer, maxBytes: number): { buffer: Buffer; consumed: number } {
  let inflated: unknown;
  try {
    inflated = inflateSync(stream, { maxOutputLength: maxBytes, info: true });
  } catch (cause) {
    const tooLarge = cause instanceof RangeError;
    const reason = tooLarge
      ? 'the compressed term is larger than it declares'
      : 'the compressed term is damaged';
    throw new DecodeError(reason, { cause });
  }
  return withConsumed(inflated);
}

// With `info`, zlib also returns the engine, whose `bytesWritten` counts the consumed input; @types/node omits this.
function withConsumed(inflated: unknown): { buffer: Buffer; consumed: number } {
  if (typeof inflated === 'object' && inflated !== null && 'buffer' in inflated && 'engine' in inflated) {
    const { buffer, engine } = inflated;
    if (Buffer.isBuffer(buffer) && typeof engine === 'object' && engine !== null && 'bytesWritten' in engine)
      return { buffer, consumed: Number(engine.bytesWritten) };
  }
  throw new TypeError('zlib did not report how much of its input it consumed');
}
