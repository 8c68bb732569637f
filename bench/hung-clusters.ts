/**
 * Measures what clusters whose fleet API hangs cost the requests for another cluster: the latency of `list_machines`
 * on a healthy cluster, alone and while requests for 1, 2, 3 and 8 hung clusters arrive, on a real RabbitMQ. Callers of the
 * hung clusters send all their requests at once, and again a second after each refusal.
 *
 * Usage: npm run bench:hung-clusters [-- SECONDS [ROUNDS]]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';

const [seconds = 4, rounds = 5] = process.argv.slice(2).map(Number);
const url = process.env.RABBITMQ_URL;
if (url === undefined) throw new Error('RABBITMQ_URL is not set: run it with scripts/with-services');

/** The number of hung clusters, and of requests for each. */
const CASES = [
  [1, 150],
  [2, 150],
  [3, 60],
  [8, 40],
] as const;
const HEALTHY = 'healthy';
const IN_FLIGHT = 8;
const RETRY_MS = 1_000;
const CALLER_TIMEOUT_MS = 30_000;

interface Latency {
  p50: number;
  p99: number;
  requests: number;
  failed: number;
}

const folder = mkdtempSync(join(tmpdir(), 'hung-clusters-'));
const connection = await connect(url, { noDelay: true });
const channel = await connection.createChannel();
const { queue: replyQueue } = await channel.assertQueue('', { exclusive: true });
const waiting = new Map<string, (code: string) => void>();
await channel.consume(
  replyQueue,
  (message) => {
    if (message === null) return;
    const { status, response_body: body } = JSON.parse(message.content.toString());
    waiting.get(String(message.properties.correlationId))?.(status === 'completed' ? status : body.code);
  },
  { noAck: true },
);

const machines = JSON.stringify({ machines: [{ id: '1'.repeat(32), primaryIP: '127.0.0.1', metadata: {} }] });
const healthy = createHttpServer((_request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end(machines);
});
// Accepts connections and never responds.
const hung = createServer((socket) => socket.on('error', () => {}));
const [healthyPort, hungPort] = [await portOf(healthy), await portOf(hung)];
const clusters = {
  [HEALTHY]: [`http://127.0.0.1:${healthyPort}`],
  ...Object.fromEntries(
    Array.from({ length: 8 }, (_, n) => [`hung${n}`, [`http://127.0.0.${n + 1}:${hungPort}`]]),
  ),
};
writeFileSync(join(folder, 'clusters.json'), JSON.stringify(clusters));

try {
  process.stdout.write(
    `medians of ${rounds} rounds of ${seconds} s, ${IN_FLIGHT} in flight, Node ${process.version}\n\n`,
  );
  process.stdout.write(
    'hung clusters          alone p50    p99      with p50    p99   p50 ratio   p99 more   refused\n',
  );
  for (const [count, calls] of CASES) {
    const pairs: { alone: Latency; beside: Latency }[] = [];
    for (let round = 0; round < rounds; round++) pairs.push(await compare(count, calls));
    print(`${count} x ${calls} requests`, pairs);
  }
} finally {
  healthy.close();
  healthy.closeAllConnections();
  hung.close();
  await connection.close();
  rmSync(folder, { recursive: true });
  setImmediate(() => process.exit());
}

/** One service: the healthy cluster alone, then beside the hung ones. */
async function compare(count: number, calls: number): Promise<{ alone: Latency; beside: Latency }> {
  const queue = `bench_hung_${randomUUID()}`;
  const service = startService(queue);
  try {
    await declared(queue);
    await load(queue, 1);
    const alone = await load(queue, seconds);
    const end = performance.now() + seconds * 1_000;
    for (let n = 0; n < count; n++)
      for (let call = 0; call < calls; call++) void insist(queue, `hung${n}`, end);
    return { alone, beside: await load(queue, seconds) };
  } finally {
    service.kill('SIGKILL');
    await once(service, 'exit');
    await channel.deleteQueue(queue);
    await channel.deleteQueue(`${queue}_error`);
    waiting.clear();
  }
}

/** Requests until it gets another answer than that it should try again. */
async function insist(queue: string, cluster: string, end: number): Promise<void> {
  while (performance.now() < end) {
    const code = await request(queue, cluster);
    if (code !== 'cluster_busy' && code !== 'cluster_unreachable') return;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function load(queue: string, duration: number): Promise<Latency> {
  const latencies: number[] = [];
  let failed = 0;
  const end = performance.now() + duration * 1_000;
  const caller = async () => {
    while (performance.now() < end) {
      const start = performance.now();
      if ((await request(queue, HEALTHY)) !== 'completed') failed++;
      latencies.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), requests: sorted.length, failed };
}

async function request(queue: string, cluster: string): Promise<string> {
  const id = randomUUID();
  const envelope = {
    status: 'not_started',
    request_body: { etcd_token: cluster, action: 'list_machines' },
  };
  const answered = new Promise<string>((resolve) => waiting.set(id, resolve));
  channel.publish('', queue, Buffer.from(JSON.stringify(envelope)), {
    contentType: 'application/json',
    messageId: id,
    correlationId: id,
    replyTo: replyQueue,
    headers: { 'timeout-ms': CALLER_TIMEOUT_MS },
  });
  try {
    return await answered;
  } finally {
    waiting.delete(id);
  }
}

function startService(queue: string): ChildProcess {
  const cli = new URL('../dist/src/cli.js', import.meta.url).pathname;
  const env = {
    PATH: process.env.PATH,
    AMQP_URL: url,
    QUEUE_NAME: queue,
    HTTP_PORT: 'off',
    CLUSTERS_FILE: join(folder, 'clusters.json'),
    ALLOWED_HOSTS: '127.0.0.0/8',
    LOG_FORMAT: 'json',
  };
  const service = spawn('node', [cli, 'serve'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  service.stderr.resume();
  return service;
}

/** Waits until the service has declared its queue. */
async function declared(queue: string): Promise<void> {
  for (let left = 600; left > 0; left--) {
    const probe = await connection.createChannel();
    probe.on('error', () => {});
    const found = await probe.checkQueue(queue).then(
      () => true,
      () => false,
    );
    if (found) return probe.close();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('the service did not start');
}

/** Listens on a free port of all addresses. */
async function portOf(server: Server): Promise<number> {
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return port;
}

function print(name: string, pairs: readonly { alone: Latency; beside: Latency }[]): void {
  const of = (pick: (pair: { alone: Latency; beside: Latency }) => number) =>
    pairs.map(pick).toSorted((a, b) => a - b)[Math.floor(pairs.length / 2)] ?? Number.NaN;
  const columns = [
    of(({ alone }) => alone.p50).toFixed(2),
    of(({ alone }) => alone.p99).toFixed(2),
    of(({ beside }) => beside.p50).toFixed(2),
    of(({ beside }) => beside.p99).toFixed(2),
    of(({ alone, beside }) => beside.p50 / alone.p50).toFixed(2),
    of(({ alone, beside }) => beside.p99 - alone.p99).toFixed(1),
    String(pairs.reduce((sum, { beside }) => sum + beside.failed, 0)),
  ];
  process.stdout.write(`${name.padEnd(20)} ${columns.map((each) => each.padStart(10)).join('')}\n`);
}
