import { LinkedList } from './linked-list.js';

/** An abort controller that creates its signal only when it is read: most small requests never read it. */
export class LazyAbort {
  #controller: AbortController | undefined;
  #callbacks: LinkedList<() => void> | undefined;
  #aborted = false;
  #reason: unknown;

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Calls back when it is aborted, which it must not be yet; without a signal, which costs far more. @returns undoes that */
  onAbort(callback: () => void): () => void {
    this.#callbacks ??= new LinkedList();
    const place = this.#callbacks.add(callback);
    return () => void place.leave();
  }

  /** Only the first reason counts. */
  abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    this.#controller?.abort(reason);
    for (const callback of this.#callbacks ?? []) callback();
  }
}
