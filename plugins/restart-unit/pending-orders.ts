import { pendingHosts } from '../../src/plugin.js';

const MAY_HAPPEN: Readonly<Record<'loaded' | 'launched', string>> = {
  loaded: 'the unit then stops',
  launched: 'if somebody has stopped the unit until then, it starts again',
};

/**
 * The orders that a host has got and not answered. It may carry them out at any time after it goes on. That fleet shows the
 * ordered state does not end that: somebody else may have set it.
 */
export class PendingOrders {
  readonly #hosts = { loaded: new Set<string>(), launched: new Set<string>() };

  /** The order to set this state has failed. */
  failed(state: 'loaded' | 'launched', error: unknown): void {
    for (const host of pendingHosts(error)) this.#hosts[state].add(host);
  }

  /** For people, what may happen later: a sentence for each state. */
  get warnings(): string[] {
    return (['loaded', 'launched'] as const)
      .filter((state) => this.#hosts[state].size > 0)
      .map(
        (state) =>
          `${[...this.#hosts[state]].join(', ')} has not answered the order to set it to ${state}, and may carry it out when it responds again: ${MAY_HAPPEN[state]}. Check its desired state then`,
      );
  }
}
