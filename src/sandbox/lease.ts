/**
 * A key of etcd that expires unless its owner refreshes it. It uses no timers: the last refresh is computed from the
 * time. All times are in milliseconds.
 */
export class Lease {
  readonly #everyMs: number;
  readonly #ttlMs: number;
  /** Refreshes are due at this time, and every `everyMs` after it. */
  #firstAt: number;
  #refreshedAt: number;
  /** Undefined while it is not refreshed. */
  #refreshesSince: number | undefined;

  constructor({ everyMs, ttlMs, now }: { everyMs: number; ttlMs: number; now: number }) {
    this.#everyMs = everyMs;
    this.#ttlMs = ttlMs;
    this.#firstAt = now;
    this.#refreshedAt = now;
    this.#refreshesSince = now;
  }

  /** The owner cannot refresh it any more. */
  pause(now: number): void {
    this.#refreshedAt = this.refreshedAt(now);
    this.#refreshesSince = undefined;
  }

  /** The owner refreshes it when that is due next. */
  resume(now: number): void {
    this.#refreshesSince ??= now;
  }

  /** The owner refreshes it now, and again after each period from now on. */
  restart(now: number): void {
    this.#firstAt = now;
    this.#refreshedAt = now;
    this.#refreshesSince = now;
  }

  refreshedAt(now: number): number {
    if (this.#refreshesSince === undefined) return this.#refreshedAt;
    const due = now - ((now - this.#firstAt) % this.#everyMs);
    return due >= this.#refreshesSince ? Math.max(due, this.#refreshedAt) : this.#refreshedAt;
  }

  /** How long until the next refresh is due. */
  untilDue(now: number): number {
    return this.#everyMs - ((now - this.#firstAt) % this.#everyMs);
  }

  /** When it expires if nobody refreshes it after `now`. */
  expiresAt(now: number): number {
    return this.refreshedAt(now) + this.#ttlMs;
  }
}
