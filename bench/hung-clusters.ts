/**
 * Measures what clusters whose fleet API hangs cost the requests for another cluster: the latency of `list_machines`
 * on a healthy cluster, alone and while requests for 1, 2, 3 and 8 hung clusters arrive, on a real RabbitMQ. The clusters hang
 * from the beginning, or after they have answered for a while. Callers of the hung clusters send all their requests at
 * once, and again a second after each refusal. The last line is for requests without a cluster, for machines whose SSH server
 * accepts connections and stays silent.
 *
 * Usage: npm run bench:hung-clusters [-- SECONDS [ROUNDS]]
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Server as TcpServer,
  type Socket,
} from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brokerUrl, Caller, load, median, percentile, startService } from './support.js';

const [seconds = 4, rounds = 5] = process.argv.slice(2).map(Number);
const url = brokerUrl();

/** The number of hung clusters, and of requests for each. */
const CASES = [
  [1, 150],
  [2, 150],
  [3, 60],
  [8, 40],
] as const;
const HEALTHY = 'healthy';
const IN_FLIGHT = 8;
/** Requests without a cluster. */
const WITHOUT_CLUSTER = 300;
/** Requests for each cluster before it hangs. */
const WARM_UP_REQUESTS = 40;
const RETRY_MS = 1_000;
const CALLER_TIMEOUT_MS = 30_000;
const MACHINES = JSON.stringify({
  machines: [{ id: '1'.repeat(32), primaryIP: '127.0.0.1', metadata: {} }],
});

type RequestBody = Record<string, unknown>;

interface Latency {
  p50: number;
  p99: number;
  failed: number;
}

let hang = true;
const healthyServer = createServer((_request, response) => answer(response));
const hungServer = createServer((_request, response) => {
  if (!hang) answer(response);
});
const silentSockets = new Set<Socket>();
const silentServer = createTcpServer((socket) => silentSockets.add(socket.on('error', () => {})));
const [healthyPort, hungPort] = [await portOf(healthyServer), await portOf(hungServer)];
const silentPort = await portOf(silentServer);
const folder = mkdtempSync(join(tmpdir(), 'hung-clusters-'));
const clusters = {
  [HEALTHY]: [`http://127.0.0.1:${healthyPort}`],
  ...Object.fromEntries(
    Array.from({ length: 8 }, (_, n) => [`hung${n}`, [`http://127.0.0.${n + 1}:${hungPort}`]]),
  ),
};
writeFileSync(join(folder, 'clusters.json'), JSON.stringify(clusters));
const caller = await Caller.open(url);

try {
  process.stdout.write(
    `medians of ${rounds} rounds of ${seconds} s, ${IN_FLIGHT} in flight, Node ${process.version}\n\n`,
  );
  process.stdout.write(
    'hung clusters                 alone p50    p99      with p50    p99   p50 ratio   p99 more   refused\n',
  );
  for (const warm of [false, true]) {
    for (const [count, calls] of CASES) {
      const pairs: { alone: Latency; beside: Latency }[] = [];
      const names = Array.from({ length: count }, (_, n) => `hung${n}`);
      const hung = names.flatMap((name) => Array(calls).fill(listMachines(name)));
      for (let round = 0; round < rounds; round++) pairs.push(await compare(hung, warm ? names : []));
      print(`${count} x ${calls} requests${warm ? ', warm' : ''}`, pairs);
    }
  }
  const pairs: { alone: Latency; beside: Latency }[] = [];
  const hung = Array.from({ length: WITHOUT_CLUSTER }, (_, n) => ({
    action: 'node_info',
    action_parameters: { nodes: [`127.0.1.${n % 250}`] },
  }));
  for (let round = 0; round < rounds; round++) pairs.push(await compare(hung, []));
  print(`${WITHOUT_CLUSTER} without a cluster`, pairs);
} finally {
  for (const server of [healthyServer, hungServer]) {
    server.close();
    server.closeAllConnections();
  }
  silentServer.close();
  for (const socket of silentSockets) socket.destroy();
  await caller.close();
  rmSync(folder, { recursive: true });
  setImmediate(() => process.exit());
}

/**
 * One service: the healthy cluster alone, then beside requests that hang.
 * @param warm the clusters that answer before
 */
async function compare(
  hung: readonly RequestBody[],
  warm: readonly string[],
): Promise<{ alone: Latency; beside: Latency }> {
  const queue = `bench_hung_${randomUUID()}`;
  const service = startService(queue, url, {
    CLUSTERS_FILE: join(folder, 'clusters.json'),
    ALLOWED_HOSTS: '127.0.0.0/8',
    SSH_PORT: String(silentPort),
    SSH_HOST_KEYS: 'off',
  });
  try {
    await caller.declared(queue);
    hang = false;
    for (const name of warm)
      await Promise.all(Array.from({ length: WARM_UP_REQUESTS }, () => request(queue, listMachines(name))));
    await measure(queue, 2);
    const alone = await measure(queue, seconds);
    hang = true;
    const end = performance.now() + seconds * 1_000;
    for (const body of hung) void insist(queue, body, end);
    return { alone, beside: await measure(queue, seconds) };
  } finally {
    service.kill('SIGKILL');
    await once(service, 'exit');
    await caller.channel.deleteQueue(queue);
    await caller.channel.deleteQueue(`${queue}_error`);
  }
}

function listMachines(cluster: string): RequestBody {
  return { etcd_token: cluster, action: 'list_machines' };
}

/** Requests until it gets another answer than that it should try again. */
async function insist(queue: string, body: RequestBody, end: number): Promise<void> {
  while (performance.now() < end) {
    const code = await request(queue, body);
    if (code !== 'cluster_busy' && code !== 'cluster_unreachable') return;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function measure(queue: string, duration: number): Promise<Latency> {
  let failed = 0;
  const latencies = await load(IN_FLIGHT, duration, async () => {
    if ((await request(queue, listMachines(HEALTHY))) !== 'completed') failed++;
  });
  return { p50: percentile(latencies, 0.5), p99: percentile(latencies, 0.99), failed };
}

/** @returns `completed`, or the code of the error */
async function request(queue: string, requestBody: RequestBody): Promise<string> {
  const headers = { 'timeout-ms': CALLER_TIMEOUT_MS };
  const reply = await caller.request(queue, requestBody, { headers });
  const { status, response_body: body } = JSON.parse(reply.toString());
  return status === 'completed' ? status : body.code;
}

function answer(response: { setHeader(name: string, value: string): void; end(body: string): void }): void {
  response.setHeader('content-type', 'application/json');
  response.end(MACHINES);
}

/** Listens on a free port of all addresses. */
async function portOf(server: Server | TcpServer): Promise<number> {
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return port;
}

function print(name: string, pairs: readonly { alone: Latency; beside: Latency }[]): void {
  const of = (pick: (pair: { alone: Latency; beside: Latency }) => number) => median(pairs.map(pick));
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
