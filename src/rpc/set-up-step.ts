import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import type { BrokerConnection } from './broker-connection.js';

/** How long the broker may take for one step, in milliseconds: also a new queue of a busy cluster takes less. */
const STEP_MS = 10_000;

/**
 * Runs one step of what is set up on a new connection. The time while the broker blocks the connection does not count.
 * @param what names the step, for people, such as `declare the queue fleet_manager`
 * @throws Error with that name when the broker does not answer in time: a queue that hangs does not end the connection
 */
export type SetUpStep = <T>(what: string, run: () => Promise<T>) => Promise<T>;

export function setUpSteps(connection: BrokerConnection, clock: Clock): SetUpStep {
  return async (what, run) => {
    const work = run();
    while (!(await settledWithin(STEP_MS, clock, work))) {
      if (connection.blockedReason === undefined)
        throw new Error(`the broker has not answered within ${STEP_MS} ms: ${what}`);
      await connection.whenUnblocked(connection.lost);
    }
    return work;
  };
}
