import { untilAborted } from './until-aborted.js';

/** A mutex for each key: work on the same key runs one after the other, in order of arrival. */
export class KeyedMutex {
  readonly #last = new Map<string, Promise<void>>();
  /** How much work on each key runs or waits. */
  readonly #counts = new Map<string, number>();

  /** How much work on this key runs or waits. */
  count(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  /** Takes the turn of this key, when nothing runs or waits. @returns gives it up; undefined: it is taken */
  take(key: string): (() => Promise<void>) | undefined {
    if (this.count(key) > 0) return undefined;
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const turn = this.runExclusive(key, new AbortController().signal, async () => released);
    return async () => {
      release();
      await turn;
    };
  }

  /** Runs the work when all earlier work on this key has ended; rejects when the signal is aborted while it waits. */
  async runExclusive<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    let release: () => void = () => {};
    const own = new Promise<void>((resolve) => (release = resolve));
    const ended = before.then(() => own);
    this.#last.set(key, ended);
    this.#counts.set(key, this.count(key) + 1);
    try {
      await untilAborted(before, signal);
      return await work();
    } finally {
      release();
      this.#counts.set(key, this.count(key) - 1);
      // Work that was aborted while it waited may be the last one, and leaves before the first one has ended.
      if (this.count(key) === 0) {
        this.#counts.delete(key);
        this.#last.delete(key);
      }
    }
  }
}
