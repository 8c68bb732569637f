import { setTimeout as sleep } from 'node:timers/promises';

/** Time and timers; tests replace them. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when the signal is aborted first. */
  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** Calls back after `ms` milliseconds. @returns cancels the callback */
  after(ms: number, callback: () => void): () => void;
}

/** The system's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
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
