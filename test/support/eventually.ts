import { setTimeout as sleep } from 'node:timers/promises';

/** How long something may take before it is taken for hung: far more than on the busiest machine. */
export const HUNG_MS = 10 * 60_000;

/** Waits until something is so, asking again and again. */
export async function eventually<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + HUNG_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > end) throw new Error(`it did not come to be: ${what}`);
    await sleep(5);
  }
}
