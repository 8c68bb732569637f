import type { Caller } from '../api/caller.js';

/** What is wrong with one field of a call. */
export interface FieldProblem {
  /** The name by which the caller knows it. */
  field: string;
  message: string;
}

/** A request as a transport gives it to core. Fields that the caller wrote are `unknown` until core has checked them. */
export interface Call {
  /** Names the request in logs and to its handler. */
  readonly id: string;
  /** The name of the action. */
  readonly action: unknown;
  /** The etcd token of the cluster; a secret. */
  readonly target: unknown;
  readonly parameters: unknown;
  /** How long the caller waits, in milliseconds; as sent. */
  readonly timeoutMs: unknown;
  /** A problem that the transport found: the call is refused with `invalid_request`. */
  readonly malformed?: FieldProblem;
  readonly caller: Caller;
  /** Values that the caller passes on for other parts, such as `traceparent`. */
  readonly context: Readonly<Record<string, string>>;
  /** `repeated`: another worker may have begun it. */
  readonly delivery: 'first' | 'repeated';
  /** False: the caller does not wait for a reply. */
  readonly wantsReply: boolean;
  readonly wantsParts: boolean;
  /** Aborted with one of the reasons below. Several calls may share one signal. */
  readonly signal: AbortSignal;
}

export interface ErrorBody {
  errors: string[];
  code: string;
  details?: unknown;
}

/** What a caller gets. */
export type Reply = { status: 'completed'; body: unknown } | { status: 'error'; body: ErrorBody };

/** The end of a call. `released`: it never began, so its message can go to any worker. */
export type Settled =
  | { readonly status: 'completed'; readonly body: unknown }
  | {
      readonly status: 'error';
      readonly body: ErrorBody;
      /** What was thrown, when it is no `ActionError`; for the log, never for the caller. */
      readonly cause?: unknown;
    }
  | { readonly status: 'released' };

/** The call's connection is lost: a waiting call is released, a running call continues. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** The caller does not wait any more: a waiting or running call is stopped. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

/** The service stops: a waiting call is released, a running call is stopped. */
export class Shutdown extends Error {
  override readonly name = 'Shutdown';
}

/** The names by which callers know the fields of a request; error messages use them. */
export interface FieldNames {
  readonly action: string;
  readonly target: string;
  readonly parameters: string;
  readonly timeout: string;
}
