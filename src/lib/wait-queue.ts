/** Waiters in the order of their arrival. Each waits until it is resumed, or until its signal is aborted. */
export class WaitQueue<T> {
  readonly #resumes = new Map<T, () => void>();

  get size(): number {
    return this.#resumes.size;
  }

  /** Those that wait, oldest first. */
  get waiters(): Iterable<T> {
    return this.#resumes.keys();
  }

  /**
   * Waits until `resume` is called for this waiter, which must not wait already. Rejects with the signal's reason when that
   * is aborted first.
   */
  async wait(waiter: T, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#resumes.delete(waiter);
        reject(signal.reason);
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#resumes.set(waiter, () => {
        this.#resumes.delete(waiter);
        signal.removeEventListener('abort', leave);
        resolve();
      });
    });
  }

  resume(waiter: T): void {
    this.#resumes.get(waiter)?.();
  }
}
