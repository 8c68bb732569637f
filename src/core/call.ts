import type { Caller } from '../api/caller.js';

/** What is wrong with one field of a call. */
export interface FieldProblem {
  /** As the caller knows it. */
  field: string;
  message: string;
}

/** A request as a transport gives it to core. What a caller wrote is `unknown` until core has checked it. */
export interface Call {
  /** Names the request in logs and to its handler. */
  readonly id: string;
  /** The name of the action. */
  readonly action: unknown;
  /** The etcd token of the cluster; a secret. */
  readonly target: unknown;
  readonly parameters: unknown;
  /** How long the caller waits, in milliseconds. */
  readonly timeoutMs: unknown;
  /** What the transport found wrong: the call is refused with `invalid_request`. */
  readonly malformed?: FieldProblem;
  readonly caller: Caller;
  /** What the caller hands on for others to read, such as `traceparent`. */
  readonly context: Readonly<Record<string, string>>;
  /** `repeated`: another worker may have begun it. */
  readonly delivery: 'first' | 'repeated';
  /** False: nobody waits for the reply. */
  readonly wantsReply: boolean;
  readonly wantsParts: boolean;
  /** Aborted with one of the reasons below. Calls may share one. */
  readonly signal: AbortSignal;
}

export interface ErrorBody {
  errors: string[];
  code: string;
  details?: unknown;
}

/** What a caller gets. */
export type Reply = { status: 'completed'; body: unknown } | { status: 'error'; body: ErrorBody };

/** What comes of a call. `released`: it never began, so the transport can hand it to any worker. */
export type Settled =
  | { readonly status: 'completed'; readonly body: unknown }
  | {
      readonly status: 'error';
      readonly body: ErrorBody;
      /** What was thrown, where no action meant to throw it; for the log, never for the caller. */
      readonly cause?: unknown;
    }
  | { readonly status: 'released' };

/** The connection that a call came by is gone: what waits is released, what runs goes on. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** The caller does not wait any more: what waits or runs is stopped. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

/** The service stops: what waits is released, what runs is stopped. */
export class Shutdown extends Error {
  override readonly name = 'Shutdown';
}

/** What the callers of a transport call the fields of a request; error messages use these names. */
export interface FieldNames {
  readonly action: string;
  readonly target: string;
  readonly parameters: string;
  readonly timeout: string;
}
