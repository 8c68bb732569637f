import type { Clock } from '../lib/clock.js';

/** What this process knows of a request that was delivered again. */
export type Known<A> =
  | { state: 'finished'; answer: A }
  /** It still runs here; `answer` is undefined when it turned out not to have begun. */
  | { state: 'running'; answer: Promise<A | undefined> }
  | { state: 'never-begun' }
  | { state: 'unknown' };

interface Settled<A> {
  /** Undefined: it never began. */
  answer: A | undefined;
  at: number;
}

/**
 * Remembers requests by key, so that one that RabbitMQ delivers again after a lost connection is answered with what
 * was found, not done twice. Bounded in bytes, in entries and in time; a process that is gone has forgotten all.
 *
 * What has settled is kept in two generations. When the younger one has half of what may be kept it becomes the older
 * one, and what that held goes all at once: taking the oldest out of one map each time would cost a walk over the
 * places of those that went before.
 */
export class AnswerLedger<A> {
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #maxEntries: number;
  readonly #keepMs: number;
  readonly #running = new Map<string, Promise<A | undefined>>();
  #younger = new Map<string, Settled<A>>();
  #older = new Map<string, Settled<A>>();
  #youngerBytes = 0;

  constructor(clock: Clock, options: { maxBytes?: number; maxEntries?: number; keepMs?: number } = {}) {
    this.#clock = clock;
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
    this.#maxEntries = options.maxEntries ?? 20_000;
    this.#keepMs = options.keepMs ?? 10 * 60_000;
  }

  /** What is known of a request that was delivered again. */
  recall(key: string): Known<A> {
    const running = this.#running.get(key);
    if (running !== undefined) return { state: 'running', answer: running };
    const settled = this.#younger.get(key) ?? this.#older.get(key);
    if (settled === undefined || settled.at + this.#keepMs < this.#clock.now()) return { state: 'unknown' };
    return settled.answer === undefined
      ? { state: 'never-begun' }
      : { state: 'finished', answer: settled.answer };
  }

  /**
   * Notes that a request has been taken up.
   * @param outcome what comes of it; undefined when it never began. Must not reject.
   * @param bytes the size of an answer
   */
  track(key: string, outcome: Promise<A | undefined>, bytes: (answer: A) => number): void {
    // What was known of it before is over with this.
    this.#younger.delete(key);
    this.#older.delete(key);
    this.#running.set(key, outcome);
    void this.#settle(key, outcome, bytes);
  }

  async #settle(key: string, outcome: Promise<A | undefined>, bytes: (answer: A) => number): Promise<void> {
    const answer = await outcome;
    if (this.#running.get(key) === outcome) this.#running.delete(key);
    const size = answer === undefined ? 0 : bytes(answer);
    if (size > this.#maxBytes / 4) return;
    if (this.#youngerBytes + size > this.#maxBytes / 2 || this.#younger.size >= this.#maxEntries / 2) {
      this.#older = this.#younger;
      this.#younger = new Map();
      this.#youngerBytes = 0;
    }
    this.#younger.set(key, { answer, at: this.#clock.now() });
    this.#youngerBytes += size;
  }
}
