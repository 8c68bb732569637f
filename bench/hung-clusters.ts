/**
 * Measures what clusters whose fleet API hangs cost the requests for another cluster: the latency of `list_machines`
 * on a healthy cluster, alone and while requests for 1, 2, 3 and 8 hung clusters arrive, on a real RabbitMQ. The clusters hang
 * from the beginning, or after they have answered for a while. Callers of the hung clusters send all their requests at
 * once, and again a second after each refusal. The last line is for requests without a cluster, for machines whose SSH server
 * accepts connections and stays silent.
 *
 * Usage: npm run bench:hung-clusters [-- SECONDS [ROUNDS]]
 */
import { HungClustersTrial, hungName, listMachines, type Pair } from './hung-clusters-trial.js';
import { brokerUrl, median, startService } from './support.js';

const [seconds = 4, rounds = 5] = process.argv.slice(2).map(Number);
const url = brokerUrl();

/** The number of hung clusters, and of requests for each. */
const CASES = [
  [1, 150],
  [2, 150],
  [3, 60],
  [8, 40],
] as const;
/** Requests without a cluster. */
const WITHOUT_CLUSTER = 300;

const trial = await HungClustersTrial.open(url, (queue, settings) => startService(queue, url, settings));

try {
  process.stdout.write(`medians of ${rounds} rounds of ${seconds} s, Node ${process.version}\n\n`);
  process.stdout.write(
    'hung clusters                 alone p50    p99      with p50    p99   p50 ratio   p99 more   refused\n',
  );
  for (const warm of [false, true]) {
    for (const [count, calls] of CASES) {
      const pairs: Pair[] = [];
      const names = Array.from({ length: count }, (_, n) => hungName(n));
      const hung = names.flatMap((name) => Array(calls).fill(listMachines(name)));
      for (let round = 0; round < rounds; round++)
        pairs.push(await trial.compare(hung, warm ? names : [], seconds));
      print(`${count} x ${calls} requests${warm ? ', warm' : ''}`, pairs);
    }
  }
  const pairs: Pair[] = [];
  const hung = Array.from({ length: WITHOUT_CLUSTER }, (_, n) => ({
    action: 'node_info',
    action_parameters: { nodes: [`127.0.1.${n % 250}`] },
  }));
  for (let round = 0; round < rounds; round++) pairs.push(await trial.compare(hung, [], seconds));
  print(`${WITHOUT_CLUSTER} without a cluster`, pairs);
} finally {
  await trial.close();
  setImmediate(() => process.exit());
}

function print(name: string, pairs: readonly Pair[]): void {
  const of = (pick: (pair: Pair) => number) => median(pairs.map(pick));
  const columns = [
    of(({ alone }) => alone.p50).toFixed(2),
    of(({ alone }) => alone.p99).toFixed(2),
    of(({ beside }) => beside.p50).toFixed(2),
    of(({ beside }) => beside.p99).toFixed(2),
    of(({ alone, beside }) => beside.p50 / alone.p50).toFixed(2),
    of(({ alone, beside }) => beside.p99 - alone.p99).toFixed(1),
    String(pairs.reduce((sum, { beside }) => sum + beside.failed, 0)),
  ];
  process.stdout.write(`${name.padEnd(26)} ${columns.map((each) => each.padStart(10)).join('')}\n`);
}
