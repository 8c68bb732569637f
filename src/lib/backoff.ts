/** How long to wait between attempts, in milliseconds. */
export interface Backoff {
  firstMs: number;
  maxMs: number;
}

/**
 * The wait after a failed attempt, in milliseconds: doubled each time up to `maxMs`, then reduced by a random share of
 * up to half, so that clients that failed at the same time do not retry at the same time.
 * @param failed how many attempts have failed, from 1
 */
export function backoffMs(failed: number, { firstMs, maxMs }: Backoff): number {
  const longest = Math.min(maxMs, firstMs * 2 ** Math.min(failed - 1, 30));
  return longest * (0.5 + Math.random() / 2);
}
