/**
 * Measures what clusters whose fleet API hangs cost the requests for another cluster: the latency of `list_machines`
 * on a healthy cluster, alone and while requests for 1, 2, 3 and 8 hung clusters arrive, on a real RabbitMQ. The clusters hang
 * from the beginning, or after they have answered for a while. Callers of the hung clusters send all their requests at
 * once, and again a second after each refusal. The last line is for requests without a cluster, for machines whose SSH server
 * accepts connections and stays silent.
 *
 * Usage: npm run bench:hung-clusters [-- SECONDS [ROUNDS]]
 */
import { HungClustersTrial, hungName, listMachines, type Comparison } from './hung-clusters-trial.js';
import { brokerUrl, startService } from './support.js';

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
      const names = Array.from({ length: count }, (_, n) => hungName(n));
      const hung = names.flatMap((name) => Array(calls).fill(listMachines(name)));
      const comparison = await trial.compare(hung, warm ? names : [], { rounds, seconds });
      print(`${count} x ${calls} requests${warm ? ', warm' : ''}`, comparison);
    }
  }
  const hung = Array.from({ length: WITHOUT_CLUSTER }, (_, n) => ({
    action: 'node_info',
    action_parameters: { nodes: [`127.0.1.${n % 250}`] },
  }));
  print(`${WITHOUT_CLUSTER} without a cluster`, await trial.compare(hung, [], { rounds, seconds }));
} finally {
  await trial.close();
  setImmediate(() => process.exit());
}

function print(name: string, { alone, beside, p50Ratio, p99More }: Comparison): void {
  const columns = [
    alone.p50.toFixed(2),
    alone.p99.toFixed(2),
    beside.p50.toFixed(2),
    beside.p99.toFixed(2),
    p50Ratio.toFixed(2),
    p99More.toFixed(1),
    String(beside.failed),
  ];
  process.stdout.write(`${name.padEnd(26)} ${columns.map((each) => each.padStart(10)).join('')}\n`);
}
