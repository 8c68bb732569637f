import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { ActionError } from './action-error.js';

/**
 * Runs work under a time limit in milliseconds: its signal is aborted at the limit, with an `ActionError` `timeout` and
 * this message, and with the outer signal. For a part of a request that must not use up the time of the whole.
 */
export async function withTimeLimit<T>(
  {
    ms,
    message,
    clock,
    signal,
  }: { ms: number; message: string; clock: Pick<Clock, 'after'>; signal?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return runWithin({ ms, clock, reason: () => new ActionError('timeout', message), signal }, work);
}
