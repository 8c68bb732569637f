import { setMaxListeners } from 'node:events';
import type { Drain } from '../api/action.js';

/** The stop of the service, of which handlers learn. One for all calls. */
export class ServiceDrain implements Drain {
  readonly #controller = new AbortController();
  #reportBy = Number.POSITIVE_INFINITY;

  constructor() {
    // Any number of calls may listen.
    setMaxListeners(0, this.#controller.signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get reportBy(): number {
    return this.#reportBy;
  }

  /**
   * Only the first time counts.
   * @param reportBy when changes are not waited for any more, in the clock's milliseconds
   */
  begin(reason: unknown, reportBy: number): void {
    if (this.signal.aborted) return;
    this.#reportBy = reportBy;
    this.#controller.abort(reason);
  }
}
