import type { OwnBroker } from '../test/support/own-broker.js';
import type { Random } from './support/random.js';
import type { BuiltService } from './support/built-service.js';

/** What a scenario gets. */
export interface Run {
  /** The full size, on demand; otherwise a size for CI. */
  long: boolean;
  random: Random;
  /** The service to test. */
  service: BuiltService;
  /** A RabbitMQ of the suite's own, which may be stopped and managed. The scenario leaves it running and as it was. */
  broker: OwnBroker;
  /** Runs when the scenario ends, the last one first. */
  teardown(cleanUp: () => Promise<void> | void): void;
}

export interface Outcome {
  /** What was counted and measured, in the order of the table. */
  figures: Record<string, number | string>;
  /** The goals that were missed, a sentence each. None of them depends on how fast this machine is. */
  misses: readonly string[];
  /** The limits of time that were exceeded, a sentence each. */
  late?: readonly string[];
}

export interface Scenario {
  name: string;
  /** One line. */
  goal: string;
  run(run: Run): Promise<Outcome>;
}
