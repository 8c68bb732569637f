/** Decides from regular looks at another thread's count of ticks whether that thread is blocked. */
export class BlockedCheck {
  readonly #limitMs: number;
  readonly #periodMs: number;
  #ticks: number;
  #tickedAt: number;
  #lookedAt: number;

  /**
   * @param periodMs the time between two looks, in milliseconds
   * @param now the current time of a monotonic clock, in milliseconds
   */
  constructor({ limitMs, periodMs }: { limitMs: number; periodMs: number }, ticks: number, now: number) {
    this.#limitMs = limitMs;
    this.#periodMs = periodMs;
    this.#ticks = ticks;
    this.#tickedAt = now;
    this.#lookedAt = now;
  }

  /**
   * Whether there was no tick for the time limit, while the looks themselves came on time.
   * @param limitMs the time limit of this look, in milliseconds
   */
  isBlocked(ticks: number, now: number, limitMs = this.#limitMs): boolean {
    // A late look shows that the whole process was stopped, or got no CPU.
    const isLate = now - this.#lookedAt > 3 * this.#periodMs;
    this.#lookedAt = now;
    if (isLate || ticks !== this.#ticks) {
      this.#ticks = ticks;
      this.#tickedAt = now;
      return false;
    }
    return now - this.#tickedAt >= limitMs;
  }
}
