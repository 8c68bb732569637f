import type { BrokerRefusal } from './broker-refusal.js';

/** AMQP cannot encode this message: a name is too long, or a header has no encoding. */
export class UnpublishableError extends Error {
  override readonly name = 'UnpublishableError';
}

/** The broker does not accept this message. The error's message is the broker's own text. */
export class PublishRefused extends Error {
  override readonly name = 'PublishRefused';
  /**
   * The reply code of AMQP 0-9-1: 403 without permission, 404 for a missing exchange, 406 for its size or a property,
   * 541 for an invalid direct reply address.
   */
  readonly code: number;
  /** The largest body that the broker accepts, in bytes; undefined when it was not refused for its size. */
  readonly maxBytes: number | undefined;

  /** A message that is not sent, because the broker has refused one for its size before. */
  static tooLarge(bytes: number, maxBytes: number): PublishRefused {
    const text = `message size ${bytes} is larger than configured max size ${maxBytes}`;
    return new PublishRefused({ code: 406, text });
  }

  constructor({ code, text }: Pick<BrokerRefusal, 'code' | 'text'>, options?: ErrorOptions) {
    super(text, options);
    this.code = code;
    const limit =
      code === 406 ? /message size \d+ is larger than .*?\bmax size (\d+)/.exec(text)?.[1] : undefined;
    this.maxBytes = limit === undefined ? undefined : Number(limit);
  }
}

/**
 * The broker closed the channel over a message. Whether this message was the one, and whether it had arrived before, is
 * not known.
 */
export class MayHaveArrived extends Error {
  override readonly name = 'MayHaveArrived';
}
