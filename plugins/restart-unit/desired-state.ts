import type { DesiredState, Unit } from '../../src/plugin.js';

/** Notices that somebody else changes the desired state of a unit during the restart. */
export class DesiredStateWatch {
  readonly #own: DesiredState;
  readonly #before: string | null;
  #older = 0;

  /**
   * @param own the state that the restart has set
   * @param before the state before that
   */
  constructor(own: DesiredState, before: string | null) {
    this.#own = own;
    this.#before = before;
  }

  /** @param unit as a host shows it that has the order @returns the state that somebody else has set */
  changedTo({ desiredState }: Unit): string | undefined {
    if (desiredState === this.#own) {
      this.#older = 0;
      return undefined;
    }
    // The address of a load balancer stands for several hosts, of which one may lag behind for a moment.
    if (desiredState === this.#before && ++this.#older < 2) return undefined;
    return desiredState ?? 'unknown';
  }
}
