import type { Caller } from '../api/caller.js';
import type { Reply } from '../core/call.js';
import type { Logger } from '../lib/logger.js';
import type { Codec } from './codec/codec.js';
import type { Delivery } from './consumer.js';
import type { Envelope } from './envelope.js';

/** A reply to be sent. */
export interface OutgoingReply {
  /** The whole envelope in the request's encoding; may be in pieces, see `bodyInPieces`. */
  body: Buffer;
  contentType: string;
  /** The headers of its message; undefined: it has none. */
  headers?: Readonly<Record<string, unknown>> | undefined;
  /** The same reply as plain data; undefined unless a channel of the request `needsPlainReply`. */
  plain: Reply | undefined;
}

/** The parts of a request that are needed to send its reply. */
export interface ReplyContext {
  codec: Codec;
  envelope: Envelope;
  delivery: Delivery;
  /** When the caller stops waiting, by the clock's `now()`. */
  until: number;
  log: Logger;
}

/** How sending ended: `dropped` when the caller can no longer be reached; a reply when that one was sent instead. */
export type SendOutcome = 'sent' | 'dropped' | Reply;

/** What a reply channel knows of a request before it runs. */
export interface ChannelCheck {
  /** Why the request must not run, for people; undefined: it may run. */
  readonly refusal?: string | undefined;
  /** Who asks, when the channel proves it. */
  readonly vouchesFor?: Caller;
}

/** A way for a reply to reach its caller. */
export interface ReplyChannel {
  /** Whether it encodes replies itself, and needs `OutgoingReply.plain`. */
  readonly needsPlainReply: boolean;
  /** Whether the reply to this request is sent by this channel. */
  reaches(envelope: Envelope, delivery: Delivery): boolean;
  /**
   * Checks, before a request runs, that this channel reaches the caller who sent it: an id in a request may be that of
   * another one. Waits while this cannot be known. Without this method, every caller can be reached.
   * Rejects only when the signal is aborted.
   */
  check?(request: Pick<ReplyContext, 'envelope' | 'log'>, signal: AbortSignal): Promise<ChannelCheck>;
  /**
   * Resolves when the reply is stored safely for the caller, or when the caller can no longer be reached.
   * Rejects only when the signal is aborted.
   */
  send(reply: OutgoingReply, request: ReplyContext, signal: AbortSignal): Promise<SendOutcome>;
}
