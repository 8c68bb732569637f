import type { OwnBroker } from '../test/support/own-broker.js';
import type { Outcome, Scenario } from './scenario.js';
import type { BuiltService } from './support/built-service.js';
import { Random } from './support/random.js';

export interface Setting {
  service: BuiltService;
  broker: OwnBroker;
  long: boolean;
  seed: number;
}

/** Runs a scenario and cleans up after it. */
export async function runScenario(
  scenario: Scenario,
  { service, broker, long, seed }: Setting,
): Promise<Outcome> {
  const cleanUps: (() => Promise<void> | void)[] = [];
  const teardown = (cleanUp: () => Promise<void> | void) => void cleanUps.unshift(cleanUp);
  try {
    return await scenario.run({ long, service, broker, random: new Random(seed), teardown });
  } finally {
    for (const cleanUp of cleanUps) await cleanUp();
  }
}
