import type { Call } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { Logger } from '../lib/logger.js';

/** What is known of a call so far; times in the clock's milliseconds. */
interface Seen {
  receivedAt: number;
  admitted: boolean;
  cluster: string | undefined;
  beganAt: number | undefined;
  settledAt: number;
}

/**
 * Writes one line at the end of each request: `request completed`, `request failed`, or `request unanswered`; and a line
 * with the stack when an action failed with an error that is no `ActionError`.
 */
export function logRequests(events: CallEventBus, logFor: (fields: Record<string, unknown>) => Logger): void {
  const open = new WeakMap<Call, Seen>();

  const close = (call: Call): { log: Logger; fields: Record<string, unknown> } => {
    const seen = open.get(call);
    open.delete(call);
    return { log: logOf(call, seen, logFor), fields: timesOf(seen) };
  };

  events.on('received', ({ call, at }) =>
    open.set(call, {
      receivedAt: at,
      admitted: false,
      cluster: undefined,
      beganAt: undefined,
      settledAt: at,
    }),
  );
  events.on('admitted', ({ call, cluster }) => {
    const seen = open.get(call);
    if (seen === undefined) return;
    seen.admitted = true;
    seen.cluster = cluster?.hash;
  });
  events.on('began', ({ call, at }) => {
    const seen = open.get(call);
    if (seen !== undefined) seen.beganAt = at;
  });
  events.on('settled', ({ call, settled, at }) => {
    const seen = open.get(call);
    if (seen !== undefined) seen.settledAt = at;
    if (settled.status === 'error' && 'cause' in settled)
      logOf(call, seen, logFor).error('action failed unexpectedly', { error: settled.cause });
  });
  events.on('released', ({ call }) => open.delete(call));
  events.on('answered', ({ call, reply, dropped }) => {
    const { log, fields } = close(call);
    const ending = { ...fields, ...(dropped && { dropped }) };
    if (reply.status === 'completed') return log.info('request completed', ending);
    const { code, errors } = reply.body;
    const failure = { ...ending, code, reason: errors[0]?.slice(0, 300) };
    // The caller does not learn of it.
    if (dropped) log.warn('request failed', failure);
    else log.info('request failed', failure);
  });
  events.on('unanswered', ({ call }) => {
    const { log, fields } = close(call);
    log.warn('request unanswered', fields);
  });
  events.on('deadLettered', ({ reason }) => logFor({}).warn('message dead-lettered', { reason }));
}

function logOf(
  call: Call,
  seen: Seen | undefined,
  logFor: (fields: Record<string, unknown>) => Logger,
): Logger {
  return logFor({
    request: call.id,
    ...(typeof call.action === 'string' && { action: call.action.slice(0, 64) }),
    ...(seen?.cluster !== undefined && { cluster: seen.cluster }),
  });
}

/** How long the action ran, and how long the call waited for its turn. A call that is refused does not wait. */
function timesOf(seen: Seen | undefined): Record<string, unknown> {
  if (seen === undefined) return {};
  const { receivedAt, admitted, settledAt, beganAt = admitted ? settledAt : receivedAt } = seen;
  return { took_ms: Math.round(settledAt - beganAt), waited_ms: Math.round(beganAt - receivedAt) };
}
