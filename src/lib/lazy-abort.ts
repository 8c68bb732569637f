/** The order to stop one piece of work, given at most once; its signal is made when the work asks for it. */
export class StopOrder {
  #controller: AbortController | undefined;
  #given = false;
  #reason: unknown;

  get given(): boolean {
    return this.#given;
  }

  get reason(): unknown {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#given) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  give(reason: unknown): void {
    this.#given = true;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}
