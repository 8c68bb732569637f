import type { Reply } from '../core/call.js';
import type { Logger } from '../lib/logger.js';
import type { Codec } from './codec/codec.js';
import { type Envelope, replyEnvelope, withoutRequest } from './envelope.js';
import { longIntegerIn } from './long-integer.js';

/** The parts of a request that are needed to encode its reply. */
interface Encodable {
  codec: Codec;
  envelope: Envelope;
  log: Logger;
}

/** A reply and its encoded form. */
export interface EncodedReply {
  /** The reply that is sent: the original reply, or the error that replaces it. */
  reply: Reply;
  body: Buffer;
}

/** Encodes replies in the encoding of their requests. A reply that cannot be sent is replaced by an error. */
export class ReplyEncoder {
  readonly #maxBytes: number;

  /** @param maxBytes the maximum size of a reply */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  encode(reply: Reply, { codec, envelope, log }: Encodable): EncodedReply {
    const encode = (each: Reply, request: Envelope) => {
      // JSON would leave the key out.
      if (typeof each.body === 'function' || typeof each.body === 'symbol')
        throw new TypeError(`the result is a ${typeof each.body}`);
      return codec.encode(replyEnvelope(request, each));
    };
    // When the request's copy in the reply makes it too large, the copy is left out, so that the outcome is not lost.
    const encoded = (each: Reply): EncodedReply => {
      const body = encode(each, envelope);
      const fits = body.length <= this.#maxBytes;
      return { reply: each, body: fits ? body : encode(each, withoutRequest(envelope)) };
    };
    const replacement = (code: string, message: string): EncodedReply =>
      encoded({ status: 'error', body: { errors: [message], code } });
    try {
      const found = encoded(reply);
      if (found.body.length <= this.#maxBytes) return found;
      return replacement(
        'answer_too_large',
        `The reply has ${found.body.length} bytes, and the limit is ${this.#maxBytes}; request less data`,
      );
    } catch (error) {
      const path = longIntegerIn(reply.body);
      log.error('reply encoding failed', { error, ...(path !== undefined && { path }) });
      const reason =
        path === undefined
          ? "the service's log has the reason"
          : `response_body${path} is an integer that is too long`;
      return replacement('internal', `The reply cannot be encoded; ${reason}`);
    }
  }
}
