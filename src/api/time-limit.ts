import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { ActionError } from './action-error.js';

/**
 * Does work that may take so many milliseconds: the signal it is given is aborted when the time is over, with an
 * `ActionError` `timeout` and this message, and when the outer signal is. For a part of a request that must not cost the whole.
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
