import type { DesiredState, Unit } from '../../src/plugin.js';

/** Notices that somebody else changes the desired state of a unit during the restart. */
export class DesiredStateWatch {
  readonly #own: DesiredState;
  readonly #before: string | null;
  #isShown = false;
  #older = 0;

  /**
   * @param own the state that the restart has set
   * @param before the state before that
   */
  constructor(own: DesiredState, before: string | null) {
    this.#own = own;
    this.#before = before;
  }

  /** @returns the state that somebody else has set */
  changedTo({ desiredState }: Unit): string | undefined {
    if (desiredState === this.#own) {
      this.#isShown = true;
      this.#older = 0;
      return undefined;
    }
    const other = desiredState ?? 'unknown';
    if (desiredState !== this.#before) return other;
    // A host of fleet may lag behind another one for a moment.
    if (this.#isShown) this.#older++;
    return this.#older >= 2 ? other : undefined;
  }
}
