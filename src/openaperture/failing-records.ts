import type { Clock } from '../lib/clock.js';

/** When the Manager works, but fails on the same record for this long, that record is abandoned. */
const STUCK_MS = 10 * 60_000;

/** The records on which the Manager fails while it responds to other calls. */
export class FailingRecords {
  readonly #clock: Clock;
  readonly #since = new Map<object, number>();
  #savedAt = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @returns false: it was added before */
  add(record: object): boolean {
    if (this.#since.has(record)) return false;
    this.#since.set(record, this.#clock.now());
    return true;
  }

  remove(record: object): void {
    this.#since.delete(record);
  }

  /** Records that a reply was saved. */
  saved(): void {
    this.#savedAt = this.#clock.now();
  }

  /**
   * Whether the Manager has failed on this record for ten minutes, and on this record only: when it fails on several ones,
   * the reason is theirs only if it has saved a reply meanwhile.
   */
  mustBeAbandoned(record: object): boolean {
    const since = this.#since.get(record);
    if (since === undefined || this.#clock.now() - since < STUCK_MS) return false;
    return this.#since.size === 1 || this.#savedAt > since;
  }
}
