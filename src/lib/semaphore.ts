/** A counting semaphore: a fixed number of permits, granted in the order of the calls of `acquire`. */
export class Semaphore {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(permits: number) {
    this.#free = permits;
  }

  /**
   * Waits for a permit. Rejects with the signal's reason when that is aborted first.
   * @returns releases the permit; a second call does nothing
   */
  async acquire(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#granted(signal);
    let held = true;
    return () => {
      if (held) this.#release();
      held = false;
    };
  }

  #granted(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const grant = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.delete(grant);
        reject(signal.reason);
      };
      this.#waiting.add(grant);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    // The permit goes directly to the longest waiting caller, so that a new caller cannot overtake it.
    this.#waiting.delete(next);
    next();
  }
}
