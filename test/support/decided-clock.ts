import type { Clock } from '../../src/plugin.js';
import { systemClock } from '../../src/lib/clock.js';

/**
 * A clock on which time passes only by the waits that the code decided on, each of which takes its real time. So it tells
 * how long the code wanted to wait, however slow the machine is.
 */
export class DecidedClock implements Clock {
  #now = 1_000_000;
  /** The sleeps that were begun, in milliseconds. */
  readonly sleeps: number[] = [];

  now(): number {
    return this.#now;
  }

  wallTime(): number {
    return systemClock.wallTime();
  }

  async sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void> {
    this.sleeps.push(ms);
    const due = this.#now + ms;
    await systemClock.sleep(ms, options);
    this.#now = Math.max(this.#now, due);
  }

  after(ms: number, ring: () => void): () => void {
    const due = this.#now + ms;
    return systemClock.after(ms, () => {
      this.#now = Math.max(this.#now, due);
      ring();
    });
  }

  /** Lets time pass. */
  pass(ms: number): void {
    this.#now += ms;
  }
}
