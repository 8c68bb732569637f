/**
 * Measures the cost of a request: this service with a very small read action, compared with amqplib alone with the same
 * guarantee, alternately on the same RabbitMQ. Prints a row for each: requests a second, latency, and the server's CPU time.
 *
 * Usage: npm run bench [-- SECONDS [ROUNDS]]     (a round runs each server with 1 and with 64 requests in flight)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type Channel, connect } from 'amqplib';

const [seconds = 3, rounds = 5] = process.argv.slice(2).map(Number);
const url = process.env.RABBITMQ_URL;
if (url === undefined) throw new Error('RABBITMQ_URL is not set: run it with scripts/with-services');

interface Server {
  name: string;
  queue: string;
  process: ChildProcess;
}

interface Figures {
  perSecond: number;
  p50: number;
  p99: number;
  cpuMicros: number;
}

const TICKS_PER_SECOND = 100;

const connection = await connect(url, { noDelay: true });
const channel = await connection.createChannel();
const { queue: replyQueue } = await channel.assertQueue('', { exclusive: true });
const waiting = new Map<string, () => void>();
await channel.consume(replyQueue, (message) => waiting.get(String(message?.properties.correlationId))?.(), {
  noAck: true,
});

const servers = [startBare('bench_bare', url), startService('bench_service', url)];
try {
  for (const server of servers) await warmUp(server);
  const results = new Map<string, Figures[]>();
  for (let round = 0; round < rounds; round++) {
    for (const inFlight of [1, 64]) {
      for (const server of servers) {
        const key = `${server.name}, ${inFlight} in flight`;
        results.set(key, [...(results.get(key) ?? []), await measure(server, inFlight)]);
      }
    }
  }
  print(results);
} finally {
  for (const server of servers) server.process.kill('SIGTERM');
  for (const server of servers) await channel.deleteQueue(server.queue);
  await connection.close();
}

function startBare(queue: string, broker: string): Server {
  const file = new URL('bare-server.ts', import.meta.url).pathname;
  const process = spawn('node', ['--import=tsx', file, broker, queue], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return { name: 'amqplib alone', queue, process };
}

function startService(queue: string, broker: string): Server {
  const env = {
    PATH: process.env.PATH,
    AMQP_URL: broker,
    QUEUE_NAME: queue,
    HTTP_PORT: 'off',
    PLUGIN_PATHS: new URL('plugins', import.meta.url).pathname,
    // Writing the log is part of the measured work; reading it is not.
    LOG_FORMAT: 'json',
  };
  // The built service, as it runs in production.
  const cli = new URL('../dist/src/cli.js', import.meta.url).pathname;
  const child = spawn('node', [cli, 'serve'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.resume();
  return { name: 'fleet-manager', queue, process: child };
}

async function warmUp(server: Server): Promise<void> {
  for (let left = 100; !(await exists(server.queue)); left--) {
    if (left === 0) throw new Error(`${server.name} did not start`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await load(server, 16, 1);
}

async function exists(queue: string): Promise<boolean> {
  const probe: Channel = await connection.createChannel();
  probe.on('error', () => {});
  return probe.checkQueue(queue).then(
    async () => probe.close().then(() => true),
    () => false,
  );
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function measure(server: Server, inFlight: number): Promise<Figures> {
  const cpuBefore = cpuSeconds(server);
  const latencies = await load(server, inFlight, seconds);
  const cpu = cpuSeconds(server) - cpuBefore;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return {
    perSecond: sorted.length / seconds,
    p50: at(0.5),
    p99: at(0.99),
    cpuMicros: (cpu / sorted.length) * 1e6,
  };
}

/** Keeps `inFlight` requests in flight for `duration` seconds. @returns the latency of each, in milliseconds */
async function load(server: Server, inFlight: number, duration: number): Promise<number[]> {
  const latencies: number[] = [];
  const end = performance.now() + duration * 1_000;
  const caller = async () => {
    while (performance.now() < end) {
      const start = performance.now();
      await request(server.queue);
      latencies.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return latencies;
}

async function request(queue: string): Promise<void> {
  const id = randomUUID();
  const body = { etcd_token: `c${id.slice(0, 1)}`, action: 'ping', action_parameters: { number: 42 } };
  const envelope = {
    queue_name: '',
    id: null,
    status: 'not_started',
    request_body: body,
    response_body: null,
  };
  const answered = new Promise<void>((resolve) => waiting.set(id, resolve));
  channel.publish('', queue, Buffer.from(JSON.stringify(envelope)), {
    contentType: 'application/json',
    messageId: id,
    correlationId: id,
    replyTo: replyQueue,
    persistent: true,
  });
  await answered;
  waiting.delete(id);
}

function cpuSeconds({ process: { pid } }: Server): number {
  // Fields 14 and 15 of proc(5)'s stat, after the command's name in parentheses.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function print(results: Map<string, Figures[]>): void {
  process.stdout.write(`medians of ${rounds} rounds of ${seconds} s, Node ${process.version}\n\n`);
  process.stdout.write(`${'server'.padEnd(34)} requests/s   p50 ms   p99 ms   server CPU us/request\n`);
  for (const [key, figures] of results) {
    const of = (pick: (each: Figures) => number) => median(figures.map(pick));
    const columns = [
      of(({ perSecond }) => perSecond)
        .toFixed(0)
        .padStart(10),
      of(({ p50 }) => p50)
        .toFixed(2)
        .padStart(8),
      of(({ p99 }) => p99)
        .toFixed(2)
        .padStart(8),
      of(({ cpuMicros }) => cpuMicros)
        .toFixed(0)
        .padStart(10),
    ];
    process.stdout.write(`${key.padEnd(34)} ${columns.join(' ')}\n`);
  }
}

await Promise.all(servers.map(async (server) => server.process.exitCode ?? once(server.process, 'exit')));
