import { ActionError } from '../api/action-error.js';
import type { Cluster } from '../api/cluster.js';
import { KeyedMutex } from '../lib/keyed-mutex.js';

/** How many changes of one unit may run and wait. Each holds one of the running requests of its cluster. */
const MAX_CHANGES = 3;
/** When to try again after a refusal, in milliseconds: a change of a unit takes some seconds. */
const BUSY_MS = 10_000;

/** Changes of one unit run one after the other in this process, in the order in which they come. */
export class UnitTurns {
  readonly #mutex = new KeyedMutex();

  /** Takes the turn of a unit that nothing changes, and for which nothing waits. @returns gives it up; undefined: it is taken */
  take(cluster: Cluster | undefined, unit: string): (() => Promise<void>) | undefined {
    return this.#mutex.take(keyOf(cluster, unit));
  }

  /**
   * Does the work when no other changes any of these units.
   * @param units in alphabetical order, so that two changes never wait for each other
   * @param isLimited whether it is refused when too many wait
   * @throws ActionError `cluster_busy` when too many wait, or the signal's reason; the work was not begun
   */
  async run<T>(
    cluster: Cluster | undefined,
    units: readonly string[],
    signal: AbortSignal,
    work: () => Promise<T>,
    isLimited = true,
  ): Promise<T> {
    const full = units.find((unit) => this.#mutex.count(keyOf(cluster, unit)) >= MAX_CHANGES);
    if (isLimited && full !== undefined) {
      throw new ActionError(
        'cluster_busy',
        `${full} was not changed: ${MAX_CHANGES} changes of it run or wait already`,
        { details: { retry_after_ms: BUSY_MS } },
      );
    }
    let hasBegun = false;
    const turn = units.reduceRight<() => Promise<T>>(
      (next, unit) => async () => this.#mutex.runExclusive(keyOf(cluster, unit), signal, next),
      async () => {
        hasBegun = true;
        return work();
      },
    );
    try {
      return await turn();
    } catch (error) {
      if (hasBegun || !(error instanceof ActionError)) throw error;
      throw new ActionError(error.code, `${units.join(' and ')} was not changed: ${error.message}`, {
        cause: error,
      });
    }
  }
}

function keyOf(cluster: Cluster | undefined, unit: string): string {
  return `${cluster?.key ?? ''} ${unit}`;
}
