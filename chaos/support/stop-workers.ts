import { within } from './within.js';
import type { Worker } from './worker.js';

/** Only ends what hangs, in milliseconds: a busy machine may be slow. */
const STOP_MS = 90_000;

/** Ends workers by SIGTERM. @returns a sentence for each that did not end with 0 */
export async function stopWorkers(workers: readonly Worker[]): Promise<string[]> {
  const exits = await Promise.all(
    workers.map(async (worker) => {
      worker.kill('SIGTERM');
      return within(STOP_MS, worker.ended, 'no end');
    }),
  );
  return exits.filter((each) => each !== 0).map((each) => `a worker ended with ${each} at SIGTERM`);
}
