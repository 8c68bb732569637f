/** Calls back once for each signal that is aborted, with one listener on it, however often the signal is added. */
export class AbortWatch {
  readonly #aborted: (signal: AbortSignal) => void;
  readonly #watched = new WeakSet<AbortSignal>();

  constructor(aborted: (signal: AbortSignal) => void) {
    this.#aborted = aborted;
  }

  /** @param signal one that is not aborted yet */
  add(signal: AbortSignal): void {
    if (this.#watched.has(signal)) return;
    this.#watched.add(signal);
    signal.addEventListener('abort', () => this.#aborted(signal), { once: true });
  }
}
