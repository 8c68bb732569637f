import type { Clock } from '../../src/plugin.js';

/** A clock whose time the test advances. */
export class ManualClock implements Clock {
  #now = 1_000_000;
  /** The wall time, apart from the time that passes: `stepWallTime` sets it. */
  #wallOffset = Date.UTC(2026, 0, 1);
  /** The sum of all sleeps that were begun, in milliseconds: waits that the code decided on. */
  slept = 0;
  readonly #alarms = new Set<{ at: number; ring: () => void; endsSleep: boolean }>();

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

  sleep(ms: number, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    this.slept += ms;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = () => {
        cancel();
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const cancel = this.#set({ at: this.#now + ms, ring: wake, endsSleep: true });
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  after(ms: number, ring: () => void): () => void {
    return this.#set({ at: this.#now + ms, ring, endsSleep: false });
  }

  #set(alarm: { at: number; ring: () => void; endsSleep: boolean }): () => void {
    this.#alarms.add(alarm);
    return () => {
      this.#alarms.delete(alarm);
    };
  }

  /** How many alarms are set. */
  get pending(): number {
    return this.#alarms.size;
  }

  /** Advances to the next alarm, if one is set. */
  leap(): void {
    const next = Math.min(...[...this.#alarms].map(({ at }) => at));
    if (Number.isFinite(next)) this.advance(next - this.#now);
  }

  /**
   * Advances to the end of the next sleep, if one is begun and every time limit is later than that by `spareMs`.
   * @returns whether it did
   */
  leapSleep(spareMs: number): boolean {
    const alarms = [...this.#alarms];
    const next = Math.min(...alarms.filter(({ endsSleep }) => endsSleep).map(({ at }) => at));
    const isLimited = alarms.some(({ at, endsSleep }) => !endsSleep && at < next + spareMs);
    if (!Number.isFinite(next) || isLimited) return false;
    this.advance(next - this.#now);
    return true;
  }

  /** Lets time pass in which no timer rings, as while the process is stopped or busy. */
  pass(ms: number): void {
    this.#now += ms;
  }

  advance(ms: number): void {
    this.pass(ms);
    for (const alarm of this.#alarms) {
      if (alarm.at > this.#now) continue;
      this.#alarms.delete(alarm);
      alarm.ring();
    }
  }
}
