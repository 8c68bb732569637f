import type { Caller } from '../api/caller.js';
import { callerTimeout, MAX_TIMEOUT_MS } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import type { ReplyChannel, ReplyContext } from './reply-channel.js';

/** Whether a request may run. */
export type CheckedRequest =
  /** `vouchedFor`: who asks, when a channel proves it. */
  | { state: 'accepted'; vouchedFor: Caller | undefined }
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
  /** How much of that has passed, in milliseconds. */
  waitedMs: number;
  /** When one of them is aborted, the request is released. */
  signals: readonly AbortSignal[];
  clock: Clock;
}

/** Asks the reply channels of a request whether it may run. Waits for those that cannot know it now, within its time. */
export async function checkRequest(
  request: Pick<ReplyContext, 'envelope' | 'log'>,
  { channels, timeoutMs, waitedMs, signals, clock }: RequestCheckOptions,
): Promise<CheckedRequest> {
  if (channels.every((channel) => channel.check === undefined))
    return { state: 'accepted', vouchedFor: undefined };
  const late = new Error('the time of the request has passed');
  const timeMs = callerTimeout(timeoutMs) ?? MAX_TIMEOUT_MS;
  const limit = {
    ms: Math.max(0, timeMs - waitedMs),
    clock,
    reason: () => late,
    signal: signals,
  };
  try {
    const checks = await runWithin(limit, async (signal) =>
      Promise.all(channels.map(async (channel) => channel.check?.(request, signal))),
    );
    const reason = checks.find((each) => each?.refusal !== undefined)?.refusal;
    if (reason === undefined) {
      const vouchedFor = checks.find((each) => each?.vouchesFor !== undefined)?.vouchesFor;
      return { state: 'accepted', vouchedFor };
    }
    return {
      state: 'refused',
      reason,
      channels: channels.filter((_, index) => checks[index]?.refusal === undefined),
    };
  } catch (error) {
    if (signals.some(({ aborted }) => aborted)) return { state: 'released' };
    if (error !== late) throw error;
    return { state: 'late', waitedMs: timeMs };
  }
}
