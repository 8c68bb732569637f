import {
  HungClustersTrial,
  hungName,
  listMachines,
  type Comparison,
} from '../../bench/hung-clusters-trial.js';
import { startService } from '../../bench/support.js';
import type { Scenario } from '../scenario.js';

const REQUESTS = 500;
const MOST_P50_RATIO = 1.2;
const MOST_P99_MORE_MS = 50;

export const hungClusters: Scenario = {
  name: 'hung-clusters',
  goal: 'clusters that hang under 500 requests cost those of a healthy one nothing, and none is refused',
  async run(run) {
    const size = run.long ? { rounds: 5, seconds: 3 } : { rounds: 1, seconds: 2 };
    const start = (queue: string, settings: Record<string, string>) =>
      startService(queue, run.broker.url, settings, run.service.cli);
    const trial = await HungClustersTrial.open(run.broker.url, start);
    run.teardown(async () => trial.close());
    const comparisons: [number, Comparison][] = [];
    for (const count of run.long ? [1, 2, 3, 8] : [8]) {
      const hung = Array.from({ length: REQUESTS }, (_, n) => listMachines(hungName(n % count)));
      comparisons.push([count, await trial.compare(hung, [], size)]);
    }
    const shown = comparisons.map(([count, { p50Ratio, p99More, beside }]): [string, string] => [
      `with ${count} hung`,
      `p50 x ${p50Ratio.toFixed(2)}, p99 + ${p99More.toFixed(1)} ms, ${beside.failed} refused`,
    ]);
    return {
      figures: Object.fromEntries(shown),
      misses: comparisons
        .filter(([, { beside }]) => beside.failed > 0)
        .map(
          ([count, { beside }]) => `${count} hung: ${beside.failed} requests of the healthy one were refused`,
        ),
      late: comparisons
        .filter(([, { p50Ratio, p99More }]) => p50Ratio > MOST_P50_RATIO || p99More > MOST_P99_MORE_MS)
        .map(([count]) => `${count} hung: the healthy one became slower than it may`),
    };
  },
};
