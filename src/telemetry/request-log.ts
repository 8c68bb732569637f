import type { Call } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { Logger } from '../lib/logger.js';

/** The events of a call so far; times in the clock's milliseconds. */
interface CallProgress {
  /** How long it waited before, in milliseconds. */
  waitedMs: number;
  receivedAt: number;
  admitted: boolean;
  cluster: string | undefined;
  beganAt: number | undefined;
  /** The id of the run that it shares with other requests: that of one of them. */
  sharedRun: string | undefined;
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
      admitted: false,
      cluster: undefined,
      beganAt: undefined,
      sharedRun: undefined,
      settledAt: at,
    }),
  );
  events.on('admitted', ({ call, cluster }) => {
    const progress = open.get(call);
    if (progress === undefined) return;
    progress.admitted = true;
    progress.cluster = cluster?.hash;
  });
  events.on('began', ({ call, at, sharedRun }) => {
    const progress = open.get(call);
    if (progress === undefined) return;
    progress.beganAt = at;
    progress.sharedRun = sharedRun;
  });
  events.on('settled', ({ call, settled, at }) => {
    const progress = open.get(call);
    if (progress !== undefined) progress.settledAt = at;
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
    // No caller gets this error, so it is a warning.
    if (dropped) log.warn('request failed', fields);
    else log.info('request failed', fields);
  });
  events.on('unanswered', ({ call }) => {
    const fields = close(call);
    log.warn('request unanswered', fields);
  });
  events.on('deadLettered', ({ reason }) => log.warn('message dead-lettered', { reason }));
}

/** What a line names: the request, its action and its cluster. */
function namesOf(call: Call, progress: CallProgress | undefined): Record<string, unknown> {
  const fields: Record<string, unknown> = { request: call.id };
  if (typeof call.action === 'string') fields.action = call.action.slice(0, 64);
  if (call.replays !== undefined) fields.replays = call.replays;
  if (progress?.cluster !== undefined) fields.cluster = progress.cluster;
  return fields;
}

/** How long the action ran, and how long the call waited for its turn. A refused call does not wait for one. */
function addTimes(fields: Record<string, unknown>, progress: CallProgress): void {
  const { waitedMs, receivedAt, admitted, settledAt, beganAt = admitted ? settledAt : receivedAt } = progress;
  fields.took_ms = Math.round(settledAt - beganAt);
  fields.waited_ms = Math.round(waitedMs + beganAt - receivedAt);
  if (progress.sharedRun !== undefined) fields.shared_run = progress.sharedRun;
}
