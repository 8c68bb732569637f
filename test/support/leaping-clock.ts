import type { Clock } from '../../src/plugin.js';

/** A clock on which every sleep ends immediately and advances the time, so that seconds take no real time. */
export class LeapingClock implements Clock {
  #now = 1_000_000;
  /** The wall time, apart from the time that passes: `stepWallTime` sets it. */
  #wallOffset = Date.UTC(2026, 0, 1);
  readonly #alarms = new Set<{ at: number; ring: () => void }>();

  now(): number {
    return this.#now;
  }

  wallTime(): number {
    return this.#wallOffset + this.#now;
  }

  /** Sets the wall time forward or back, as an administrator or NTP does. */
  stepWallTime(ms: number): void {
    this.#wallOffset += ms;
  }

  async sleep(ms: number, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted();
    await new Promise(setImmediate);
    this.#now += ms;
    for (const alarm of this.#alarms) {
      if (alarm.at > this.#now) continue;
      this.#alarms.delete(alarm);
      alarm.ring();
    }
    signal?.throwIfAborted();
  }

  after(ms: number, ring: () => void): () => void {
    const alarm = { at: this.#now + ms, ring };
    this.#alarms.add(alarm);
    return () => {
      this.#alarms.delete(alarm);
    };
  }
}
