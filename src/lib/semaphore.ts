import { WaitQueue } from './wait-queue.js';

/** A counting semaphore: a fixed number of permits, granted in the order of the calls of `acquire`. */
export class Semaphore {
  #free: number;
  readonly #waiting = new WaitQueue<symbol>();

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
    else await this.#waiting.wait(Symbol('waiter'), signal);
    let held = true;
    return () => {
      if (held) this.#release();
      held = false;
    };
  }

  #release(): void {
    const [next] = this.#waiting.waiters;
    // The permit goes directly to the longest waiting caller, so that a new caller cannot overtake it.
    if (next === undefined) this.#free += 1;
    else this.#waiting.resume(next);
  }
}
