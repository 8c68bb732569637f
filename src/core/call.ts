import type { Caller } from '../api/caller.js';
import type { UnreachableHost } from '../api/warn.js';
import type { TraceHeaders } from '../lib/trace-context.js';

/** What is wrong with one field of a call. */
export interface FieldProblem {
  /** The field's name as callers write it. */
  field: string;
  message: string;
}

/** A request as a transport passes it to core. Values from the caller are `unknown` until core has checked them. */
export interface Call {
  /** Identifies the request in logs and for its handler. */
  readonly id: string;
  /** Identifies the request when it is delivered again, to any worker; undefined: nothing does. */
  readonly key?: string | undefined;
  /**
   * Identifies the change that its caller has named with an idempotency key, also when it is asked for with another message
   * (`namedChange`); undefined: it has no name.
   */
  readonly idempotencyKey?: string | undefined;
  /** The name of the action. */
  readonly action: unknown;
  /** What the action runs against: the etcd token of a cluster; a secret. */
  readonly target: unknown;
  readonly parameters: unknown;
  /** How long the caller waits, in milliseconds; as sent. */
  readonly timeoutMs: unknown;
  /** Calls of the same cluster that wait here with a lower one, or none, begin after it. */
  readonly priority?: number | undefined;
  /** How much of that has passed in the transport, in milliseconds. */
  readonly waitedMs: number;
  /** A problem that the transport found: the call is refused with `invalid_request`. */
  readonly malformed?: FieldProblem;
  readonly caller: Caller;
  /** How it came to the service: over the queue, through the HTTP gateway, or with a record of OpenAperture's Manager. */
  readonly door: 'amqp' | 'http' | 'manager';
  /** How its message is encoded: `json`, `erlang`. */
  readonly encoding: string;
  /** The number of workers that have had it, this one included, as far as is known. */
  readonly attempt: number;
  /** How often an operator has sent it again, as its message says; undefined: never. */
  readonly replays?: number | undefined;
  /** The trace that the caller sends. */
  readonly context: TraceHeaders;
  /** The trace in which it is recorded. Set when it is received, where traces are on; `traceIdOf` tells the caller's too. */
  traceId?: string | undefined;
  /** `repeated`: another worker may have begun it. */
  readonly delivery: 'first' | 'repeated';
  /** Whether another worker may have the same message too; always true of a repeated one. */
  readonly mayBeCopy: boolean;
  /** Whether a process has ended that it shared with others: it runs alone in one then. */
  readonly mustRunAlone?: boolean;
  /** False: the caller does not wait for a reply. */
  readonly wantsReply: boolean;
  readonly wantsParts: boolean;
  /** Aborted with one of the reasons below. Several calls may share a signal. */
  readonly signal: AbortSignal;
}

export interface ErrorBody {
  errors: string[];
  code: string;
  details?: unknown;
  /** The trace in which the request is found; only when there is one. */
  trace_id?: string;
}

/** What a caller should know besides the result. */
export interface ReplyDetails {
  /** Sentences for people, such as: the cluster does not list all of its machines. */
  readonly warnings: readonly string[];
  /** The machines and hosts that did not answer; absent: none is known. */
  readonly unreachable?: readonly UnreachableHost[];
}

/** What a caller gets. The details of an error are in its body. */
export type Reply =
  | { status: 'completed'; body: unknown; details?: ReplyDetails }
  | { status: 'error'; body: ErrorBody };

/** Of a reply that is that of an earlier request with the same idempotency key. */
interface Reused {
  /** The id of that request. */
  readonly replyOf?: string | undefined;
}

/** How a call ends. `released`: it never began, or may run again, so the transport can give it to any worker. */
export type Settled =
  | ({ readonly status: 'completed'; readonly body: unknown; readonly details?: ReplyDetails } & Reused)
  | ({
      readonly status: 'error';
      readonly body: ErrorBody;
      /** The thrown value when it was not an `ActionError`; for the log, never for the caller. */
      readonly cause?: unknown;
    } & Reused)
  | { readonly status: 'released'; readonly mustRunAlone?: true };

export const RELEASED = { status: 'released' } as const satisfies Settled;

/** How a call is released when the process has ended that it shared with others. */
export const RELEASED_ALONE = { status: 'released', mustRunAlone: true } as const satisfies Settled;

/** How a call ends that was not released. */
export type Ended = Exclude<Settled, { readonly status: 'released' }>;

/** How a call ends with an error. */
export type Failed = Extract<Settled, { readonly status: 'error' }>;

/**
 * The connection that delivered the call is lost: a call that has not begun is released, and so is a read that runs in isolation; any
 * other that has begun continues.
 */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** The caller no longer waits: the call is stopped, waiting or running. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

/** The service stops: a call that has not begun is released, one that has is stopped. */
export class Shutdown extends Error {
  override readonly name = 'Shutdown';
}

/** Whether a call that has not begun is released for this reason, and not refused. */
export function releases(reason: unknown): reason is ConnectionLost | Shutdown {
  return reason instanceof ConnectionLost || reason instanceof Shutdown;
}

/** Whether something tells it from others when it is asked for again. */
export function isIdentified({ key, idempotencyKey }: Pick<Call, 'key' | 'idempotencyKey'>): boolean {
  return key !== undefined || idempotencyKey !== undefined;
}

/** Whether another worker may have it, as it is not only a message that says it was replayed, which anybody may write. */
export function isKnownCopy({
  delivery,
  mayBeCopy,
  replays,
}: Pick<Call, 'delivery' | 'mayBeCopy' | 'replays'>): boolean {
  return delivery === 'repeated' || (mayBeCopy && replays === undefined);
}

/** The names that callers of a transport use for the fields of a request; error messages use these names. */
export interface FieldNames {
  readonly action: string;
  readonly target: string;
  readonly parameters: string;
  readonly timeout: string;
}
