import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until something is so, asking again and again; fails after ten seconds, unless told otherwise. */
export async function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  { withinMs = 10_000 } = {},
): Promise<NonNullable<T>> {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > end) throw new Error(`it did not come to be: ${what}`);
    await sleep(5);
  }
}
