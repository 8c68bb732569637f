/**
 * One encoding of messages. `decode` gives plain values: null, booleans, numbers, bigint (integers that a number
 * cannot hold exactly), text, arrays, and objects without a prototype's surprises (`__proto__` is a key like any other).
 */
export interface Codec {
  readonly name: string;
  /** The AMQP content type of what `encode` makes. */
  readonly contentType: string;
  /** Whether a body without a content type is in this encoding, told from its first bytes. */
  recognises(body: Uint8Array): boolean;
  /** Throws `DecodeError` on whatever it cannot read; work and memory are bounded by the size of `body`. */
  decode(body: Uint8Array): unknown;
  encode(value: unknown): Buffer;
}

/** A body that is not in the encoding it claims; the message says what is wrong with it, without quoting it. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
}
