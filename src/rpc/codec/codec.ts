import type { RowList } from '../../api/row-list.js';
import type { EncodedRows } from './encoded-rows.js';

/**
 * One encoding of messages. `decode` returns plain values: null, booleans, numbers, bigint (integers that a number
 * cannot represent exactly), strings, arrays, and objects (`__proto__` is an ordinary key).
 */
export interface Codec {
  readonly name: string;
  /** The AMQP content type of what `encode` makes. */
  readonly contentType: string;
  /** Whether a body without a content type seems to be in this encoding, judged by its first bytes. */
  recognises(body: Uint8Array): boolean;
  /** The size of the body without its compression, in bytes, as it declares it; nothing is inflated. */
  plainSize(body: Uint8Array): number;
  /** Throws `DecodeError` for a body that it cannot read; work and memory are bounded by the size of `body`. */
  decode(body: Uint8Array): unknown;
  encode(value: unknown): Buffer;
  /** Encodes the rows of a list, in turns of the event loop. */
  encodeRows(list: RowList<unknown>): Promise<EncodedRows>;
  /**
   * Encodes a map whose last value is a list of rows.
   * @param map the same, with an empty list as its last value
   * @returns pieces to join
   */
  encodeAround(map: Record<string, unknown>, rows: EncodedRows): Buffer[];
}

/** A body that cannot be decoded; the message says why, without quoting the body. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
}
