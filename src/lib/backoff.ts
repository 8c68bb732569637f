/** How long to wait between tries, in milliseconds. */
export interface Backoff {
  firstMs: number;
  mostMs: number;
}

/**
 * The wait after a failed try: it doubles with each failure, up to `mostMs`. A random part of up to half is taken off, so
 * that clients which failed together do not retry together.
 * @param failed how many tries have failed, from 1
 */
export function backoffMs(failed: number, { firstMs, mostMs }: Backoff): number {
  const most = Math.min(mostMs, firstMs * 2 ** Math.min(failed - 1, 30));
  return most * (0.5 + Math.random() / 2);
}
