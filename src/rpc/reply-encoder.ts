import { RowList } from '../api/row-list.js';
import type { Reply, ReplyDetails, Settled } from '../core/call.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { Logger } from '../lib/logger.js';
import { bodyInPieces, joined } from './body-in-pieces.js';
import { type Codec, DecodeError } from './codec/codec.js';
import { EncodedRows } from './codec/encoded-rows.js';
import { type Envelope, replyEnvelope, requestFields, withoutRequest } from './envelope.js';

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
  /** May be one in pieces, see `bodyInPieces`. */
  body: Buffer;
}

/** A reply whose result is a list of rows. */
interface ReplyOfRows {
  status: 'completed';
  body: RowList<unknown>;
  details?: ReplyDetails;
}

export function hasRows(reply: Settled): reply is ReplyOfRows {
  return reply.status === 'completed' && reply.body instanceof RowList;
}

/** Encodes replies in the encoding of their requests. A reply that cannot be sent is replaced by an error. */
export class ReplyEncoder {
  readonly #maxBytes: number;

  /** @param maxBytes the maximum size of a reply */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Encodes the rows of a result in turns of the event loop, so that `encode` does little at once. */
  async encodeRows(reply: ReplyOfRows, { codec }: Pick<Encodable, 'codec'>): Promise<Reply> {
    try {
      return { ...reply, body: await codec.encodeRows(reply.body) };
    } catch {
      // `encode` meets the same problem, and tells it.
      return reply;
    }
  }

  encode(reply: Reply, { codec, envelope, log }: Encodable): EncodedReply {
    const encode = (each: Reply, request: Envelope) => {
      // JSON would leave the key out.
      if (typeof each.body === 'function' || typeof each.body === 'symbol')
        throw new TypeError(`the result is a ${typeof each.body}`);
      return each.body instanceof EncodedRows
        ? around(each.body, { ...each, status: 'completed' }, request, codec)
        : codec.encode(replyEnvelope(request, each));
    };
    // When the request's copy in the reply makes it too large, the copy is left out, so that the outcome is not lost.
    const encoded = (each: Reply): EncodedReply => {
      const body = encode(each, envelope);
      const fits = body.length <= this.#maxBytes;
      return { reply: each, body: fits ? body : encode(each, withoutRequest(envelope)) };
    };
    try {
      const found = encoded(reply);
      if (found.body.length <= this.#maxBytes) return found;
      return encoded(tooLarge(found.body.length, this.#maxBytes, 'the limit'));
    } catch (error) {
      log.error('reply encoding failed', { error });
      const message = "The reply cannot be encoded; the service's log has the reason";
      return encoded({ status: 'error', body: { errors: [message], code: 'internal' } });
    }
  }
}

function around(
  rows: EncodedRows,
  reply: Omit<ReplyOfRows, 'body'>,
  request: Envelope,
  codec: Codec,
): Buffer {
  const { response_body: empty, ...others } = replyEnvelope(request, { ...reply, body: [] });
  return bodyInPieces(codec.encodeAround({ ...others, response_body: empty }, rows));
}

/**
 * Makes an encoded reply fit the limit of the broker, which is known only after the broker has refused the reply: without
 * the copy of the request if that is enough, or else replaced by an error that says so.
 * @returns `replacement` is the error that replaces it; undefined when it is the same reply without the copy
 */
export function shrunk(
  body: Buffer,
  { codec, envelope }: Pick<Encodable, 'codec' | 'envelope'>,
  maxBytes: number,
): { body: Buffer; replacement: Reply | undefined } {
  const request = withoutRequest(envelope);
  const bare = withFields(body, requestFields(request), codec);
  if (bare !== undefined && bare.length <= maxBytes) return { body: bare, replacement: undefined };
  const replacement = tooLarge(body.length, maxBytes, 'the limit of the broker');
  return { body: codec.encode(replyEnvelope(request, replacement)), replacement };
}

/** Replaces fields of an encoded reply; undefined when it has more values than the codec decodes. */
function withFields(body: Buffer, fields: object, codec: Codec): Buffer | undefined {
  try {
    return codec.encode({ ...fieldsOf(codec.decode(joined(body))), ...fields });
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** What a caller gets in place of a reply that is too large. @param limit whose limit it is, for people */
export function tooLarge(
  bytes: number,
  maxBytes: number,
  limit: string,
): Extract<Reply, { status: 'error' }> {
  const message = `The reply has ${bytes} bytes, and ${limit} is ${maxBytes}; request less data`;
  return {
    status: 'error',
    body: { errors: [message], code: 'answer_too_large', details: { bytes, limit: maxBytes } },
  };
}
