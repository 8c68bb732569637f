import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';

/** How long the broker may take for one step, in milliseconds: also a new queue of a busy cluster takes less. */
const STEP_MS = 10_000;

/**
 * Runs one step of what is set up on a new connection.
 * @param what names the step, for people, such as `declare the queue fleet_manager`
 * @throws Error with that name when the broker does not answer in time: a queue that hangs does not end the connection
 */
export type SetUpStep = <T>(what: string, run: () => Promise<T>) => Promise<T>;

export function setUpSteps(connection: BrokerConnection, clock: Clock): SetUpStep {
  const reasonFor = (what: string) => {
    const { blockedReason } = connection;
    if (blockedReason !== undefined) return `the broker accepts no messages: ${blockedReason}`;
    return `the broker has not answered within ${STEP_MS} ms: ${what}`;
  };
  return async (what, run) => {
    const limit = { ms: STEP_MS, clock, reason: () => new Error(reasonFor(what)) };
    return runWithin(limit, async (signal) => untilAborted(run(), signal));
  };
}
