/** Gives pieces of work a turn of the event loop each, so that timers and sockets get theirs between two of them. */
export class OwnTurns {
  #last: Promise<void> = Promise.resolve();

  /** Resolves in a turn for which nothing else has waited here. */
  async next(): Promise<void> {
    this.#last = this.#last.then(async () => new Promise((resolve) => setImmediate(resolve)));
    return this.#last;
  }
}
