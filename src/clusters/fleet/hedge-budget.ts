/** How many hedges each call adds. */
const HEDGES_PER_CALL = 0.03;
/** How many hedges are saved up at most. One is enough to find out that a host is slow. */
const MAX_SAVED = 2;

/**
 * Bounds the calls that hedging adds where nothing is wrong but that some calls take long: about three for each hundred calls of a
 * cluster.
 */
export class HedgeBudget {
  #hedges = MAX_SAVED;

  /** A host is asked, and not as a hedge. */
  called(): void {
    this.#hedges = Math.min(MAX_SAVED, this.#hedges + HEDGES_PER_CALL);
  }

  /** @returns whether a hedge may be made, which then counts */
  take(): boolean {
    if (this.#hedges < 1) return false;
    this.#hedges -= 1;
    return true;
  }
}
