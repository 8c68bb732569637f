import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { ActionError } from './action-error.js';

/**
 * Runs work under a time limit of `ms` milliseconds. Its signal is aborted at the limit, with an `ActionError`
 * `timeout` with this message, or when the outer signal is aborted. For a step of a request that may fail without
 * failing the request.
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

/** The time that is reserved for the reply, in milliseconds. */
const REPLY_MS = 1_000;

/**
 * How long the parts of a request may take when its deadline is in `leftMs` milliseconds, so that a part that hangs costs only
 * itself: a second less, for the reply, or half of less than two seconds.
 */
export function timeForParts(leftMs: number): number {
  return leftMs - Math.min(REPLY_MS, leftMs / 2);
}
