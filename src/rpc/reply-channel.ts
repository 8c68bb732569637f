import type { Reply } from '../core/call.js';
import type { Logger } from '../lib/logger.js';
import type { Delivery } from './consumer.js';
import type { Envelope } from './envelope.js';

/** A reply on its way out. */
export interface OutgoingReply {
  /** The whole envelope in the request's encoding. */
  body: Buffer;
  contentType: string;
  /** The same reply as plain data; undefined unless a channel of the request `needsPlainReply`. */
  plain: Reply | undefined;
}

/** A request, as far as the way back to its caller goes. */
export interface Answerable {
  envelope: Envelope;
  delivery: Delivery;
  log: Logger;
}

/** What became of a reply: `dropped` when the caller is gone; a reply where that one took its place. */
export type SendOutcome = 'sent' | 'dropped' | Reply;

/** A way for a reply to reach its caller. */
export interface ReplyChannel {
  /** Whether it has an encoding of its own, and so needs the reply as plain data. */
  readonly needsPlainReply: boolean;
  /** Whether this request can be answered this way. */
  reaches(envelope: Envelope, delivery: Delivery): boolean;
  /**
   * Resolves when the reply is safe with whoever keeps it for the caller, or when the caller is known to be gone.
   * Rejects only when the signal is aborted.
   */
  send(reply: OutgoingReply, request: Answerable, signal: AbortSignal): Promise<SendOutcome>;
}
