/** Lets those who name the same thing go one after the other. */
export class Turns {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs the work when all who came before for this thing are done; rejects when the signal is aborted while waiting. */
  async take<T>(thing: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(thing) ?? Promise.resolve();
    let leave: () => void = () => {};
    const own = new Promise<void>((resolve) => (leave = resolve));
    const turn = before.then(() => own);
    this.#last.set(thing, turn);
    try {
      await unlessAborted(before, signal);
      return await work();
    } finally {
      leave();
      if (this.#last.get(thing) === turn) this.#last.delete(thing);
    }
  }
}

function unlessAborted(wait: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop, { once: true });
    void wait.then(resolve).finally(() => signal.removeEventListener('abort', stop));
  });
}
