import { type FleetApiCluster, FleetApis, namesOf } from '../fleet-apis.js';
import { msOf, ProbedService } from '../probed-service.js';
import type { BenchOptions, Measurement, Row } from '../row.js';
import { median, percentile } from '../support.js';

const HOSTS = 3;
/** Reads of one cluster at the same time share a call, so these are as many clusters, on the same hosts. */
const IN_FLIGHT = 8;

/** Clusters of which nothing is wrong, with many reads of one call each. The latency of a call is log-normal. */
const MACHINES = [
  // As fleet answers: mostly within 35 ms, and one call in a hundred takes longer than 100 ms.
  { name: 'quick', units: 0, hosts: HOSTS, names: IN_FLIGHT, pageMs: 10, jitter: 1, reads: 3_000 },
  // Under load: one call in fourteen takes longer than a second.
  { name: 'loaded', units: 0, hosts: HOSTS, names: IN_FLIGHT, pageMs: 150, jitter: 1.3, reads: 1_200 },
];

/** A list of 11 pages on a cluster that reads one at a time, for all of its hosts together. */
const PAGES = { units: 1_000, lockedMs: 200 };
const [ONE_HOST, SLOW] = [
  { name: 'one', ...PAGES },
  { name: 'slow', ...PAGES, hosts: HOSTS },
];
/** As many lists of such a cluster are read at the same time. */
const ACTIONS = ['list_units', 'list_unit_states'];

interface Figures {
  calls: number;
  needed: number;
  latencies: number[];
}

export const row: Row = {
  name: 'hedged-reads',
  title: `Calls of the fleet API for reads of healthy clusters of ${HOSTS} hosts, against the calls that the reads need`,

  async measure({ brokerUrl, rounds }: BenchOptions): Promise<Measurement> {
    const apis = await FleetApis.start([...MACHINES, ONE_HOST, SLOW]);
    const service = await ProbedService.start(brokerUrl, apis.settings);
    try {
      const lines: Measurement['lines'] = [];
      // Of so many reads one round tells.
      for (const { reads, ...cluster } of MACHINES) {
        const subject = `list_machines, ${cluster.pageMs} ms in the median`;
        lines.push(lineOf(subject, [await readMachines(service, apis, cluster, reads)]));
      }
      lines.push(
        lineOf(
          `two lists of 11 pages, ${PAGES.lockedMs} ms each, one at a time`,
          await repeated(rounds, async () => readLists(service, apis)),
        ),
      );
      const goals = lines.map(({ subject, figures }) => ({
        what: `calls against those that the reads need, ${subject}`,
        measured: figures['calls / needed'] ?? Number.NaN,
        limit: 1.05,
      }));
      return { lines, goals };
    } finally {
      await service.stop();
      await apis.stop();
    }
  },
};

async function repeated<T>(times: number, work: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let round = 0; round < times; round++) results.push(await work());
  return results;
}

function lineOf(subject: string, rounds: readonly Figures[]): Measurement['lines'][number] {
  const latencies = rounds.flatMap((each) => each.latencies).toSorted((a, b) => a - b);
  return {
    subject,
    figures: {
      calls: median(rounds.map(({ calls }) => calls)),
      'calls / needed': median(rounds.map(({ calls, needed }) => calls / needed)),
      'p50 ms': percentile(latencies, 0.5),
      'p99 ms': percentile(latencies, 0.99),
    },
  };
}

async function readMachines(
  service: ProbedService,
  apis: FleetApis,
  cluster: FleetApiCluster,
  reads: number,
): Promise<Figures> {
  const latencies: number[] = [];
  const before = await apis.calls(cluster.name);
  const reader = async (name: string) => {
    for (let left = reads / IN_FLIGHT; left > 0; left--)
      latencies.push(await msOf(async () => service.request({ action: 'list_machines', etcd_token: name })));
  };
  await Promise.all(namesOf(cluster).map(reader));
  // Each read needs one call.
  return { calls: (await apis.calls(cluster.name)) - before, needed: latencies.length, latencies };
}

/** A cluster of one host is never asked twice for the same. */
async function readLists(service: ProbedService, apis: FleetApis): Promise<Figures> {
  const latencies: number[] = [];
  const callsFor = async (name: string, lasting: number[]) => {
    const before = await apis.calls(name);
    const read = async (action: string) =>
      lasting.push(await msOf(async () => service.request({ action, etcd_token: name })));
    await Promise.all(ACTIONS.map(read));
    return (await apis.calls(name)) - before;
  };
  return {
    needed: await callsFor(ONE_HOST.name, []),
    calls: await callsFor(SLOW.name, latencies),
    latencies,
  };
}
