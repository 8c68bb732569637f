import { within } from './within.js';
import type { Worker } from './worker.js';

/** Only ends what hangs, in milliseconds: a busy machine may be slow. */
const HANGS_MS = 90_000;

/**
 * Resolves when these workers have lost their connections to the broker by a fault.
 * @returns after how many milliseconds; undefined when one does not notice
 */
export async function loseConnections(
  workers: readonly Worker[],
  fault: () => Promise<void> | void,
): Promise<number | undefined> {
  const lost = workers.map(async (worker) =>
    worker.logged('broker connection lost', worker.count('broker connection lost') + 1),
  );
  const begin = performance.now();
  await fault();
  return within(
    HANGS_MS,
    Promise.all(lost).then(() => performance.now() - begin),
    undefined,
  );
}

/**
 * Resolves when the workers take requests again after each loss that they have noticed.
 * @returns after how many milliseconds; undefined when one does not
 */
export async function takeRequestsAgain(workers: readonly Worker[]): Promise<number | undefined> {
  const begin = performance.now();
  const again = workers.map(async (worker) =>
    worker.logged('broker connection restored', worker.count('broker connection lost')),
  );
  return within(
    HANGS_MS,
    Promise.all(again).then(() => performance.now() - begin),
    undefined,
  );
}
