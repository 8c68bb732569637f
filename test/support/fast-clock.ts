import type { Clock } from '../../src/plugin.js';
import { systemClock } from '../../src/lib/clock.js';

/** Real time that passes ten times as fast: what comes every thirty seconds comes after three. */
export class FastClock implements Clock {
  readonly #begun = systemClock.now();

  now(): number {
    return this.#begun + (systemClock.now() - this.#begun) * 10;
  }

  async sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void> {
    return systemClock.sleep(ms / 10, options);
  }

  after(ms: number, ring: () => void): () => void {
    return systemClock.after(ms / 10, ring);
  }
}
