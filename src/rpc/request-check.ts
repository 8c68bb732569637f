import { callerTimeout, MAX_TIMEOUT_MS } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import type { ReplyChannel, ReplyContext } from './reply-channel.js';

/** Whether a request may run. */
export type CheckedRequest =
  /** After this many milliseconds of waiting. */
  | { state: 'accepted'; waitedMs: number }
  /** `channels`: those that reach its caller all the same. */
  | { state: 'refused'; reason: string; channels: readonly ReplyChannel[] }
  /** The time of the request has passed before it could be known. */
  | { state: 'late'; waitedMs: number }
  /** The service stops, or the connection is lost: the broker delivers the request again. */
  | { state: 'released' };

export interface RequestCheckOptions {
  channels: readonly ReplyChannel[];
  /** The caller's time limit as sent, in milliseconds; an invalid one is refused later. */
  timeoutMs: unknown;
  /** When one of them is aborted, the request is released. */
  signals: readonly AbortSignal[];
  clock: Clock;
}

/** Asks the reply channels of a request whether it may run. Waits for those that cannot know it now, within its time. */
export async function checkRequest(
  request: Pick<ReplyContext, 'envelope' | 'log'>,
  { channels, timeoutMs, signals, clock }: RequestCheckOptions,
): Promise<CheckedRequest> {
  if (channels.every((channel) => channel.refusal === undefined)) return { state: 'accepted', waitedMs: 0 };
  const begun = clock.now();
  const waitedMs = () => Math.round(clock.now() - begun);
  const late = new Error('the time of the request has passed');
  const limit = {
    ms: callerTimeout(timeoutMs) ?? MAX_TIMEOUT_MS,
    clock,
    reason: () => late,
    signal: signals,
  };
  try {
    const refusals = await runWithin(limit, async (signal) =>
      Promise.all(channels.map(async (channel) => channel.refusal?.(request, signal))),
    );
    const reason = refusals.find((each) => each !== undefined);
    if (reason === undefined) return { state: 'accepted', waitedMs: waitedMs() };
    return {
      state: 'refused',
      reason,
      channels: channels.filter((_, index) => refusals[index] === undefined),
    };
  } catch (error) {
    if (signals.some(({ aborted }) => aborted)) return { state: 'released' };
    if (error !== late) throw error;
    return { state: 'late', waitedMs: waitedMs() };
  }
}

/** Waits that callers do not notice: a limit less these would only look odd in an error. */
const UNNOTICED_MS = 1_000;

/** The caller's time limit for the rest of the call. */
export function remainingTimeout(sent: unknown, waitedMs: number): unknown {
  const timeoutMs = callerTimeout(sent);
  // Admission refuses what is not a time limit.
  if (waitedMs < UNNOTICED_MS || timeoutMs === undefined) return sent;
  return Math.max(1, timeoutMs - waitedMs);
}
