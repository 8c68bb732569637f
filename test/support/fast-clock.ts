import type { Clock } from '../../src/plugin.js';
import { systemClock } from '../../src/lib/clock.js';

/**
 * Real time in which waits pass ten times as fast: what happens every thirty seconds happens every three. Time limits stay
 * as they are, since what they limit is as slow as the machine.
 */
export class FastClock implements Clock {
  readonly #begun = systemClock.now();

  now(): number {
    return this.#begun + (systemClock.now() - this.#begun) * 10;
  }

  wallTime(): number {
    return systemClock.wallTime();
  }

  async sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void> {
    return systemClock.sleep(ms / 10, options);
  }

  after(ms: number, ring: () => void): () => void {
    return systemClock.after(ms, ring);
  }
}
