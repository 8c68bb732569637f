import type { Caller } from '../api/caller.js';
import type { Warn } from '../api/warn.js';
import type { ErrorBody } from '../core/call.js';
import type { IsolatedCall } from '../core/isolation.js';
import type { NestedCall } from '../core/nested-authority.js';
import type { TraceHeaders } from '../lib/trace-context.js';
import type { Configuration, HandlerPluginSettings } from '../settings/settings.js';

// The messages between the service and a handler process, as `child_process.fork` sends them with `serialization: 'advanced'`.

/** What a handler process needs of the configuration. It contains secrets, so it is sent, not passed in the environment. */
export type HandlerSettings = Pick<
  Configuration,
  'environment' | 'plugins' | 'clusters' | 'ssh' | 'log' | 'watchdogSeconds' | 'hostname'
> & {
  /** The largest reply that is sent, in bytes. */
  maxReplyBytes: number;
  pluginSettings: HandlerPluginSettings;
};

/** A call to run. */
export interface Run
  extends Pick<IsolatedCall, 'key' | 'work' | 'repeated' | 'unitNames' | 'units' | 'traceId'> {
  type: 'run';
  /** Identifies the call in all messages about it: the ids of requests need not be unique. */
  call: number;
  id: string;
  action: string;
  parameters: unknown;
  /** The etcd token of the cluster: a secret. */
  token: string | undefined;
  caller: Caller;
  /** Where the trace goes on; undefined: traces are off. */
  trace: TraceHeaders | undefined;
  /** The time until its deadline, in milliseconds: each process has a clock of its own. */
  leftMs: number;
}

export type ToHandlerProcess =
  | { type: 'start'; settings: HandlerSettings }
  | Run
  /** Aborts the signal of a call. */
  | { type: 'stop'; call: number; reason: ErrorBody }
  /** The service begins to stop: changes have this long to report, in milliseconds. */
  | { type: 'drain'; reportWithinMs: number }
  /** What was asked by `enter`: the action may begin, or not; and that `leave` is done. */
  | { type: 'entered'; call: number; run: number; units: readonly string[] | undefined }
  | { type: 'refused'; call: number; run: number; thrown: Thrown }
  | { type: 'left'; call: number; run: number }
  /** The process responds with `pong`. */
  | { type: 'ping' }
  /** The process cleans up, for at most this long, and ends. */
  | { type: 'end'; withinMs: number };

/** What a handler threw. */
export type Thrown =
  | { kind: 'reported'; body: ErrorBody }
  /** The reason of its signal. */
  | { kind: 'aborted' }
  /** Anything but an `ActionError`, as text for the log. */
  | { kind: 'unexpected'; text: string };

export type FromHandlerProcess =
  /** It begins to load the next plugin. */
  | { type: 'loading' }
  | { type: 'ready' }
  /** It cannot serve the actions, and ends. */
  | { type: 'unusable'; reason: string }
  | { type: 'pong' }
  /** The call begins, but not before this has been sent. */
  | { type: 'began'; call: number }
  | { type: 'responded'; call: number }
  | { type: 'warned'; call: number; warning: Parameters<Warn> }
  /** The handler of a call calls another action. */
  | ({ type: 'enter'; call: number } & NestedCall)
  /** That action has ended. */
  | { type: 'leave'; call: number; run: number; outcome: string }
  | { type: 'done'; call: number; body: unknown }
  | { type: 'failed'; call: number; thrown: Thrown };
