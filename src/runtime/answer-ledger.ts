import type { Clock } from '../plugin.js';

interface Finished<A> {
  answer: A;
  bytes: number;
  at: number;
}

/** What this process knows of a request that was delivered again. */
export type Known<A> =
  | { state: 'finished'; answer: A }
  /** It still runs here; `answer` is undefined when it turned out not to have begun. */
  | { state: 'running'; answer: Promise<A | undefined> }
  | { state: 'never-begun' }
  | { state: 'unknown' };

/**
 * Remembers requests by key, so that one that RabbitMQ delivers again after a lost connection is answered with what
 * was found, not done twice. Bounded in bytes, in entries and in time; a process that is gone has forgotten all.
 */
export class AnswerLedger<A> {
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #maxEntries: number;
  readonly #keepMs: number;
  readonly #running = new Map<string, Promise<A | undefined>>();
  readonly #finished = new Map<string, Finished<A>>();
  /** With the time at which each was let go. */
  readonly #neverBegun = new Map<string, number>();
  #bytes = 0;

  constructor(clock: Clock, options: { maxBytes?: number; maxEntries?: number; keepMs?: number } = {}) {
    this.#clock = clock;
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
    this.#maxEntries = options.maxEntries ?? 10_000;
    this.#keepMs = options.keepMs ?? 10 * 60_000;
  }

  /** What is known of a request that was delivered again. */
  recall(key: string): Known<A> {
    const running = this.#running.get(key);
    if (running !== undefined) return { state: 'running', answer: running };
    const oldest = this.#clock.now() - this.#keepMs;
    const finished = this.#finished.get(key);
    if (finished !== undefined && finished.at >= oldest)
      return { state: 'finished', answer: finished.answer };
    const letGoAt = this.#neverBegun.get(key);
    this.#neverBegun.delete(key);
    return letGoAt !== undefined && letGoAt >= oldest ? { state: 'never-begun' } : { state: 'unknown' };
  }

  /**
   * Notes that a request has been taken up.
   * @param outcome what comes of it; undefined when it never began. Must not reject.
   * @param bytes the size of an answer
   */
  track(key: string, outcome: Promise<A | undefined>, bytes: (answer: A) => number): void {
    this.#running.set(key, outcome);
    void this.#settle(key, outcome, bytes);
  }

  async #settle(key: string, outcome: Promise<A | undefined>, bytes: (answer: A) => number): Promise<void> {
    const answer = await outcome;
    if (this.#running.get(key) === outcome) this.#running.delete(key);
    if (answer !== undefined) this.#keep(key, answer, bytes(answer));
    else this.#letGo(key);
  }

  #keep(key: string, answer: A, bytes: number): void {
    this.#forget(key);
    if (bytes > this.#maxBytes / 4) return;
    this.#finished.set(key, { answer, bytes, at: this.#clock.now() });
    this.#bytes += bytes;
    const oldestKept = this.#clock.now() - this.#keepMs;
    // The map is in order of time, so what has to go is at its front.
    for (const [old, { at }] of this.#finished) {
      if (at >= oldestKept && this.#bytes <= this.#maxBytes && this.#finished.size <= this.#maxEntries) break;
      this.#forget(old);
    }
  }

  #forget(key: string): void {
    const finished = this.#finished.get(key);
    if (finished === undefined) return;
    this.#finished.delete(key);
    this.#bytes -= finished.bytes;
  }

  #letGo(key: string): void {
    this.#neverBegun.delete(key);
    this.#neverBegun.set(key, this.#clock.now());
    if (this.#neverBegun.size <= this.#maxEntries) return;
    const [oldest] = this.#neverBegun.keys();
    if (oldest !== undefined) this.#neverBegun.delete(oldest);
  }
}
