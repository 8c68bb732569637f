import type { Clock } from './clock.js';
import type { Logger } from './logger.js';

/** The two log messages of an outage: stable event phrases. */
export interface OutagePhrases {
  /** Such as `broker connection lost`. */
  began: string;
  /** Such as `broker connection restored`. */
  ended: string;
}

/** Logs an outage once when it begins and once when it ends, not at each failure. */
export class OutageLog {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #phrases: OutagePhrases;
  readonly #fields: Record<string, unknown>;
  #since: number | undefined;
  #failures = 0;

  /** @param fields of both lines: what the outage concerns */
  constructor(log: Logger, clock: Clock, phrases: OutagePhrases, fields: Record<string, unknown> = {}) {
    this.#log = log;
    this.#clock = clock;
    this.#phrases = phrases;
    this.#fields = fields;
  }

  /** Records a failure; the first one begins the outage. */
  failed(fields: Record<string, unknown>): void {
    this.#failures++;
    if (this.#since !== undefined) return;
    this.#since = this.#clock.now();
    this.#log.warn(this.#phrases.began, { ...this.#fields, ...fields });
  }

  /** Records a success; it ends an outage that has begun. */
  succeeded(): void {
    if (this.#since === undefined) return;
    const lasted = this.#clock.now() - this.#since;
    this.#log.info(this.#phrases.ended, {
      ...this.#fields,
      lasted_ms: Math.round(lasted),
      failures: this.#failures,
    });
    this.#since = undefined;
    this.#failures = 0;
  }
}
