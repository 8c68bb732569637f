import type { Clock } from './clock.js';
import type { Logger } from './logger.js';
import { OutageLog, type OutagePhrases } from './outage-log.js';

/** Logs once when a limited memory is used up, and once when there is room again. */
export class MemoryLog {
  readonly #limit: number;
  readonly #outage: OutageLog;

  /** @param limit in bytes */
  constructor(limit: number, log: Logger, clock: Clock, phrases: OutagePhrases) {
    this.#limit = limit;
    this.#outage = new OutageLog(log, clock, phrases);
  }

  /** Records that something had no room. @param used in bytes */
  usedUp(used: number): void {
    this.#outage.failed({ used, limit: this.#limit });
  }

  /**
   * Records that something was released. There is room again only at half of the limit: under steady load, each release would
   * end the outage and the next use begin another.
   * @param used in bytes
   */
  released(used: number): void {
    if (used * 2 <= this.#limit) this.#outage.succeeded();
  }
}
