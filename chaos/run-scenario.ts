import type { OwnBroker } from '../test/support/own-broker.js';
import type { Outcome, Scenario } from './scenario.js';
import type { BuiltService } from './support/built-service.js';
import { Random } from './support/random.js';
import { within } from './support/within.js';

export interface Setting {
  service: BuiltService;
  broker: OwnBroker;
  long: boolean;
  seed: number;
}

/** Only ends what hangs, in minutes: a busy machine may be slow. The short one is below AVA's own limit. */
const LIMITS = { short: 8, long: 60 };

/** Runs a scenario and cleans up after it, also when it hangs. */
export async function runScenario(
  scenario: Scenario,
  { service, broker, long, seed }: Setting,
): Promise<Outcome> {
  const cleanUps: (() => Promise<void> | void)[] = [];
  const teardown = (cleanUp: () => Promise<void> | void) => void cleanUps.unshift(cleanUp);
  const minutes = long ? LIMITS.long : LIMITS.short;
  const hung: Outcome = { figures: {}, misses: [`it did not end within ${minutes} minutes`] };
  const outcome = scenario.run({ long, service, broker, random: new Random(seed), teardown });
  const [ended] = await Promise.allSettled([within(minutes * 60_000, outcome, hung)]);
  const failures: unknown[] = [];
  for (const cleanUp of cleanUps) {
    try {
      await cleanUp();
    } catch (error) {
      failures.push(error);
    }
  }
  // What a clean-up fails for may only be a consequence.
  if (ended.status === 'rejected') throw ended.reason;
  if (failures.length > 0) throw failures[0];
  return ended.value;
}
