import type { Scenario } from './scenario.js';
import { broker } from './scenarios/broker.js';
import { clock } from './scenarios/clock.js';
import { hungClusters } from './scenarios/hung-clusters.js';
import { kills } from './scenarios/kills.js';
import { malformed } from './scenarios/malformed.js';
import { million } from './scenarios/million.js';
import { poison } from './scenarios/poison.js';
import { poisonAtLoad } from './scenarios/poison-at-load.js';
import { queue } from './scenarios/queue.js';
import { sigterm } from './scenarios/sigterm.js';
import { twoWorkers } from './scenarios/two-workers.js';

export const SCENARIOS: readonly Scenario[] = [
  kills,
  broker,
  twoWorkers,
  sigterm,
  malformed,
  poison,
  poisonAtLoad,
  hungClusters,
  clock,
  queue,
  million,
];
