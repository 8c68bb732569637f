import type { Reply } from '../core/call.js';
import type { Logger } from '../lib/logger.js';
import type { Delivery } from './consumer.js';
import type { Envelope } from './envelope.js';

/** A reply that is being sent. */
export interface OutgoingReply {
  /** The whole envelope in the request's encoding. */
  body: Buffer;
  contentType: string;
  /** The same reply as plain data; undefined unless a channel of the request `needsPlainReply`. */
  plain: Reply | undefined;
}

/** What a reply channel needs to know of a request. */
export interface Answerable {
  envelope: Envelope;
  delivery: Delivery;
  log: Logger;
}

/** The outcome of sending a reply. `dropped`: the caller cannot be reached any more. A reply: this one was sent instead. */
export type SendOutcome = 'sent' | 'dropped' | Reply;

/** A way for a reply to reach its caller. */
export interface ReplyChannel {
  /** Whether it has its own encoding, and so needs the reply as plain data. */
  readonly needsPlainReply: boolean;
  /** Whether this request can be answered this way. */
  reaches(envelope: Envelope, delivery: Delivery): boolean;
  /**
   * Resolves when the reply is stored safely for the caller, or when the caller is known to be gone.
   * Rejects only when the signal is aborted.
   */
  send(reply: OutgoingReply, request: Answerable, signal: AbortSignal): Promise<SendOutcome>;
}
