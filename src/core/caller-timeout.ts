/** The maximum run time of a request, in milliseconds. */
export const MAX_TIMEOUT_MS = 5 * 60_000;

/**
 * Reads a caller's time limit: a number of milliseconds from 1, or the digits of one as a string, as some callers can only
 * send text.
 * @param sent as the caller sent it; null and undefined: the caller sets no limit
 * @returns milliseconds, at most `MAX_TIMEOUT_MS`; undefined when it is not a time limit
 */
export function callerTimeout(sent: unknown): number | undefined {
  if (sent === undefined || sent === null) return MAX_TIMEOUT_MS;
  const value = typeof sent === 'string' && /^\d{1,15}$/.test(sent) ? Number(sent) : sent;
  const isLimit = typeof value === 'number' && Number.isFinite(value) && value >= 1;
  return isLimit ? Math.min(value, MAX_TIMEOUT_MS) : undefined;
}

/** How long a change that is stopped at its time limit may take to report its outcome, in milliseconds. */
export const OUTCOME_GRACE_MS = 30_000;
