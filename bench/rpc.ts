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
import { brokerUrl, Caller, load, median, percentile, startService } from './support.js';

const [seconds = 3, rounds = 5] = process.argv.slice(2).map(Number);
const url = brokerUrl();

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
const PLUGIN_PATHS = new URL('plugins', import.meta.url).pathname;

const caller = await Caller.open(url);
const servers: Server[] = [
  { name: 'amqplib alone', queue: 'bench_bare', process: startBare('bench_bare') },
  {
    name: 'fleet-manager',
    queue: 'bench_service',
    process: startService('bench_service', url, { PLUGIN_PATHS }),
  },
];
try {
  for (const { queue } of servers) {
    await caller.declared(queue);
    await load(16, 1, () => ping(queue));
  }
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
  for (const server of servers) await caller.channel.deleteQueue(server.queue);
  await caller.close();
}

function startBare(queue: string): ChildProcess {
  const file = new URL('bare-server.ts', import.meta.url).pathname;
  return spawn('node', ['--import=tsx', file, url, queue], { stdio: ['ignore', 'ignore', 'inherit'] });
}

async function measure(server: Server, inFlight: number): Promise<Figures> {
  const cpuBefore = cpuSeconds(server);
  const latencies = await load(inFlight, seconds, () => ping(server.queue));
  const cpu = cpuSeconds(server) - cpuBefore;
  return {
    perSecond: latencies.length / seconds,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99),
    cpuMicros: (cpu / latencies.length) * 1e6,
  };
}

async function ping(queue: string): Promise<void> {
  const body = {
    etcd_token: `c${randomUUID().slice(0, 1)}`,
    action: 'ping',
    action_parameters: { number: 42 },
  };
  await caller.request(queue, body, { persistent: true });
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
