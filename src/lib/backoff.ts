/** How long to wait between tries, in milliseconds. */
export interface Backoff {
  firstMs: number;
  mostMs: number;
}

/**
 * The wait after a failed try: twice as long each time, up to the most, and by chance down to half of it, so that many
 * who failed together do not come back together.
 * @param failed how many tries have failed, from 1
 */
export function backoffMs(failed: number, { firstMs, mostMs }: Backoff): number {
  const most = Math.min(mostMs, firstMs * 2 ** Math.min(failed - 1, 30));
  return most * (0.5 + Math.random() / 2);
}
