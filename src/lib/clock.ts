import { setTimeout as sleep } from 'node:timers/promises';

/** Time and timers; tests replace them. */
export interface Clock {
  /**
   * Milliseconds since an arbitrary time, never set back or forward: for durations, ages, deadlines, caches and pauses.
   */
  now(): number;
  /** Milliseconds since the epoch; steps when the system's time is set. Only to show or to send. */
  wallTime(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when the signal is aborted first. */
  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** Calls back after `ms` milliseconds. Returns a function that cancels that. */
  after(ms: number, callback: () => void): () => void;
}

/** The system's clock. */
export const systemClock: Clock = {
  // Whole milliseconds: they appear in logs and replies.
  now: () => Math.floor(performance.now()),
  wallTime: () => Date.now(),
  sleep: async (ms, { signal } = {}) => {
    try {
      await sleep(ms, undefined, { signal });
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    }
  },
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
