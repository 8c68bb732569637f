import type { Reply } from '../core/call.js';
import type { Logger } from '../lib/logger.js';
import type { Codec } from './codec/codec.js';
import { type Envelope, replyEnvelope, withoutRequest } from './envelope.js';

/** What the encoding of a reply needs to know of its request. */
interface Encodable {
  codec: Codec;
  envelope: Envelope;
  log: Logger;
}

/** A reply with its encoding. */
export interface EncodedReply {
  /** What the caller gets: the given reply, or the error that replaces it. */
  reply: Reply;
  body: Buffer;
}

/** Encodes each reply as its request was; a reply that cannot be sent is replaced by an error that says so. */
export class ReplyEncoder {
  readonly #maxBytes: number;

  /** @param maxBytes the largest reply that is sent */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  encode(reply: Reply, { codec, envelope, log }: Encodable): EncodedReply {
    const encode = (each: Reply, request: Envelope) => codec.encode(replyEnvelope(request, each));
    // A request may be larger than a reply can be; the outcome of a change must not be lost for it.
    const encoded = (each: Reply): EncodedReply => {
      const body = encode(each, envelope);
      const fits = body.length <= this.#maxBytes;
      return { reply: each, body: fits ? body : encode(each, withoutRequest(envelope)) };
    };
    const instead = (code: string, message: string): EncodedReply =>
      encoded({ status: 'error', body: { errors: [message], code } });
    try {
      const found = encoded(reply);
      if (found.body.length <= this.#maxBytes) return found;
      return instead(
        'answer_too_large',
        `The answer has ${found.body.length} bytes, and at most ${this.#maxBytes} are sent; ask for less`,
      );
    } catch (error) {
      log.error('reply encoding failed', { error });
      return instead('internal', "The answer cannot be encoded; the service's log has the reason");
    }
  }
}
