import { HungClustersTrial, hungName, listMachines, type Pair } from '../../bench/hung-clusters-trial.js';
import { startService } from '../../bench/support.js';
import type { Scenario } from '../scenario.js';

const REQUESTS = 500;
const MOST_P50_RATIO = 1.2;
const MOST_P99_MORE_MS = 50;

export const hungClusters: Scenario = {
  name: 'hung-clusters',
  goal: 'clusters that hang under 500 requests cost those of a healthy one nothing, and none is refused',
  async run(run) {
    const seconds = run.long ? 5 : 2;
    const start = (queue: string, settings: Record<string, string>) =>
      startService(queue, run.broker.url, settings, run.service.cli);
    const trial = await HungClustersTrial.open(run.broker.url, start);
    run.teardown(async () => trial.close());
    const pairs = new Map<number, Pair>();
    for (const count of run.long ? [1, 2, 3, 8] : [8]) {
      const hung = Array.from({ length: REQUESTS }, (_, n) => listMachines(hungName(n % count)));
      pairs.set(count, await trial.compare(hung, [], seconds));
    }
    const ratioOf = ({ alone, beside }: Pair) => beside.p50 / alone.p50;
    const moreOf = ({ alone, beside }: Pair) => beside.p99 - alone.p99;
    const shown = [...pairs].map(([count, pair]): [string, string] => [
      `with ${count} hung`,
      `p50 x ${ratioOf(pair).toFixed(2)}, p99 + ${moreOf(pair).toFixed(1)} ms, ${pair.beside.failed} refused`,
    ]);
    return {
      figures: Object.fromEntries(shown),
      misses: [...pairs]
        .filter(([, { beside }]) => beside.failed > 0)
        .map(
          ([count, { beside }]) => `${count} hung: ${beside.failed} requests of the healthy one were refused`,
        ),
      late: [...pairs]
        .filter(([, pair]) => ratioOf(pair) > MOST_P50_RATIO || moreOf(pair) > MOST_P99_MORE_MS)
        .map(([count]) => `${count} hung: the healthy one became slower than it may`),
    };
  },
};
