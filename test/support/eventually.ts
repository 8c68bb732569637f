import { setTimeout as sleep } from 'node:timers/promises';

/** Longer than anything takes on a busy machine: only ends what hangs. Below AVA's own limit. */
export const HUNG_MS = 8 * 60_000;

/** Polls until a condition is true. The limit only ends a test that hangs, because a busy machine may be slow. */
export async function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  { everyMs = 5 } = {},
): Promise<NonNullable<T>> {
  const end = Date.now() + HUNG_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > end) throw new Error(`it did not come to be: ${what}`);
    await sleep(everyMs);
  }
}
