import type { Clock } from '../../src/plugin.js';

/** A clock on which every sleep ends immediately and advances the time, so that seconds take no real time. */
export class LeapingClock implements Clock {
  readonly #leapMs: number;
  #now = 1_000_000;
  /** The wall time, apart from the time that passes: `stepWallTime` sets it. */
  #wallOffset = Date.UTC(2026, 0, 1);
  readonly #alarms = new Set<{ at: number; ring: () => void }>();

  /** @param options.leapMs how far it leaps for what is to happen then, in milliseconds: time limits are longer, and not awaited */
  constructor({ leapMs = 0 }: { leapMs?: number } = {}) {
    this.#leapMs = leapMs;
  }

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
    if (ms <= this.#leapMs) void this.sleep(ms);
    return () => {
      this.#alarms.delete(alarm);
    };
  }
}
