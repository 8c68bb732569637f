import type { Cluster } from '../api/cluster.js';
import { errorCodeInfo } from '../api/error-codes.js';
import type { ActionDescription } from '../core/action-description.js';
import { requestFields } from '../core/action-request.js';
import type { Call } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import { traceIdOf } from '../core/trace-id.js';
import type { Logger } from '../lib/logger.js';

/** The events of a call so far; times in the clock's milliseconds. */
interface CallProgress {
  /** How long it waited before, in milliseconds. */
  waitedMs: number;
  receivedAt: number;
  /** Undefined until it is admitted. */
  action: ActionDescription | undefined;
  /** Also when the policy denies it. */
  cluster: Cluster | undefined;
  units: readonly string[] | undefined;
  beganAt: number | undefined;
  /** The id of the run that it shares with other requests: that of one of them. */
  sharedRun: string | undefined;
  /** The id of the request whose reply it got, as it had the same idempotency key. */
  replyOf: string | undefined;
  settledAt: number;
}

/**
 * Logs one line for each request when it ends: `request completed`, `request failed`, or `request unanswered`. Logs the
 * stack too when an action failed with an error that is not an `ActionError`.
 */
export function logRequests(events: CallEventBus, logFor: (fields: Record<string, unknown>) => Logger): void {
  const log = logFor({});
  const open = new WeakMap<Call, CallProgress>();

  /** The fields of the line of a request. */
  const close = (call: Call): Record<string, unknown> => {
    const progress = open.get(call);
    open.delete(call);
    const fields = namesOf(call, progress);
    if (progress !== undefined) addTimes(fields, progress);
    return fields;
  };

  events.on('received', ({ call, at }) =>
    open.set(call, {
      waitedMs: call.waitedMs,
      receivedAt: at,
      action: undefined,
      cluster: undefined,
      units: undefined,
      beganAt: undefined,
      sharedRun: undefined,
      replyOf: undefined,
      settledAt: at,
    }),
  );
  events.on('admitted', ({ call, action, cluster, units }) => {
    const progress = open.get(call);
    if (progress === undefined) return;
    progress.action = action;
    progress.cluster = cluster;
    progress.units = units;
  });
  events.on('denied', ({ call, cluster, units }) => {
    const progress = open.get(call);
    if (progress === undefined) return;
    progress.cluster = cluster;
    progress.units = units;
  });
  events.on('began', ({ call, at, sharedRun }) => {
    const progress = open.get(call);
    if (progress === undefined) return;
    progress.beganAt = at;
    progress.sharedRun = sharedRun;
    // Also when the process ends in the middle of it, the log tells what it was.
    if (progress.action?.effect === 'change') log.info('change started', namesOf(call, progress));
  });
  events.on('nestedBegan', ({ call, action, cluster, units }) => {
    const { id, caller } = call;
    const fields = requestFields(id, action, { cluster, caller, units, traceId: traceIdOf(call) });
    log.info('nested change started', { ...fields, within: open.get(call)?.action?.name });
  });
  events.on('settled', ({ call, settled, at }) => {
    const progress = open.get(call);
    if (progress !== undefined) {
      progress.settledAt = at;
      progress.replyOf = settled.replyOf;
    }
    if (settled.status === 'error' && 'cause' in settled)
      log.error('action failed unexpectedly', { ...namesOf(call, progress), error: settled.cause });
  });
  events.on('released', ({ call }) => open.delete(call));
  events.on('answered', ({ call, reply, dropped }) => {
    const fields = close(call);
    if (dropped) fields.dropped = true;
    if (reply.status === 'completed') return log.info('request completed', fields);
    const { code, errors } = reply.body;
    fields.code = code;
    fields.reason = errors[0]?.slice(0, 300);
    log[levelOf(code, dropped)]('request failed', fields);
  });
  events.on('unanswered', ({ call }) => {
    const fields = close(call);
    log.warn('request unanswered', fields);
  });
  events.on('deadLettered', ({ reason, message, caller }) => {
    const fields = message === undefined ? {} : { request: message };
    log.warn('message dead-lettered', { ...fields, caller: caller.name, reason });
  });
}

/** Failures that somebody must look into. Those of a caller are `info`, those of the service or the cluster at least `warn`. */
const SERIOUS: ReadonlySet<string> = new Set(['internal', 'worker_lost']);

function levelOf(code: string, dropped: boolean): 'info' | 'warn' | 'error' {
  if (SERIOUS.has(code)) return 'error';
  // Nobody else is told of a dropped one.
  return dropped || errorCodeInfo(code).fault === 'service' ? 'warn' : 'info';
}

/** What a line names: the request, its action, its cluster, its caller, its units and its trace. */
function namesOf(call: Call, progress: CallProgress | undefined): Record<string, unknown> {
  const { id, action, caller, replays } = call;
  const name = typeof action === 'string' ? action.slice(0, 64) : undefined;
  const fields = requestFields(id, name, {
    cluster: progress?.cluster,
    caller,
    units: progress?.units,
    traceId: traceIdOf(call),
  });
  if (replays !== undefined) fields.replays = replays;
  return fields;
}

/** How long the action ran, and how long the call waited for its turn. A refused call does not wait for one. */
function addTimes(fields: Record<string, unknown>, progress: CallProgress): void {
  const { waitedMs, receivedAt, action, settledAt } = progress;
  const { beganAt = action === undefined ? receivedAt : settledAt } = progress;
  fields.took_ms = Math.round(settledAt - beganAt);
  fields.waited_ms = Math.round(waitedMs + beganAt - receivedAt);
  if (progress.replyOf !== undefined) fields.reply_of = progress.replyOf;
  if (progress.sharedRun !== undefined) fields.shared_run = progress.sharedRun;
}
