/**
 * One encoding of messages. `decode` gives plain values: null, booleans, numbers, bigint (integers that a number
 * cannot hold exactly), strings, arrays, and objects in which `__proto__` is a key like any other.
 */
export interface Codec {
  readonly name: string;
  /** The AMQP content type of what `encode` makes. */
  readonly contentType: string;
  /** Whether a body without a content type is in this encoding, by its first bytes. */
  recognises(body: Uint8Array): boolean;
  /** Throws `DecodeError` for every body that it cannot read; work and memory are bounded by the size of `body`. */
  decode(body: Uint8Array): unknown;
  encode(value: unknown): Buffer;
}

/** A body that is not in the declared encoding; the message says what is wrong, without quoting the body. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
}
