import { type ChildProcess } from 'node:child_process';
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
import { Caller, load, median, percentile } from './support.js';

const HEALTHY = 'healthy';
const MOST_HUNG = 8;
const IN_FLIGHT = 8;
/** Requests for each cluster before it hangs. */
const WARM_UP_REQUESTS = 40;
const RETRY_MS = 1_000;
const CALLER_TIMEOUT_MS = 30_000;
const MACHINES = JSON.stringify({
  machines: [{ id: '1'.repeat(32), primaryIP: '127.0.0.1', metadata: {} }],
});

export type RequestBody = Record<string, unknown>;

export interface Latency {
  p50: number;
  p99: number;
  failed: number;
}

/** What several rounds measured: medians, since one round varies by more than the clusters that hang cost. */
export interface Comparison {
  alone: Latency;
  beside: Latency;
  p50Ratio: number;
  /** Milliseconds. */
  p99More: number;
}

interface Pair {
  alone: Latency;
  beside: Latency;
}

/** A cluster that answers, clusters whose fleet API hangs, and a machine whose SSH server stays silent. */
export class HungClustersTrial {
  readonly #caller: Caller;
  readonly #startService: (queue: string, settings: Record<string, string>) => ChildProcess;
  readonly #folder = mkdtempSync(join(tmpdir(), 'hung-clusters-'));
  readonly #silentSockets = new Set<Socket>();
  readonly #healthy = createServer((_request, response) => answer(response));
  readonly #hung = createServer((_request, response) => {
    if (!this.#hangs) answer(response);
  });
  readonly #silent = createTcpServer((socket) => this.#silentSockets.add(socket.on('error', () => {})));
  #hangs = true;
  #silentPort = 0;

  /** @param startService starts the service on a queue of the broker */
  static async open(
    url: string,
    startService: (queue: string, settings: Record<string, string>) => ChildProcess,
  ): Promise<HungClustersTrial> {
    const trial = new HungClustersTrial(await Caller.open(url), startService);
    const [healthyPort, hungPort] = [await portOf(trial.#healthy), await portOf(trial.#hung)];
    trial.#silentPort = await portOf(trial.#silent);
    const hung = Array.from({ length: MOST_HUNG }, (_, n) => [
      hungName(n),
      [`http://127.0.0.${n + 1}:${hungPort}`],
    ]);
    const clusters = { [HEALTHY]: [`http://127.0.0.1:${healthyPort}`], ...Object.fromEntries(hung) };
    writeFileSync(trial.#clustersFile, JSON.stringify(clusters));
    return trial;
  }

  private constructor(
    caller: Caller,
    startService: (queue: string, settings: Record<string, string>) => ChildProcess,
  ) {
    this.#caller = caller;
    this.#startService = startService;
  }

  async close(): Promise<void> {
    for (const server of [this.#healthy, this.#hung]) {
      server.close();
      server.closeAllConnections();
    }
    this.#silent.close();
    for (const socket of this.#silentSockets) socket.destroy();
    await this.#caller.close();
    rmSync(this.#folder, { recursive: true });
  }

  /**
   * In each round a new service: the healthy cluster alone, then beside requests that hang.
   * @param warm the clusters that answer before
   * @param seconds how long each is measured
   */
  async compare(
    hung: readonly RequestBody[],
    warm: readonly string[],
    { rounds, seconds }: { rounds: number; seconds: number },
  ): Promise<Comparison> {
    const pairs: Pair[] = [];
    for (let round = 0; round < rounds; round++) pairs.push(await this.#compareOnce(hung, warm, seconds));
    return {
      alone: medianOf(pairs.map(({ alone }) => alone)),
      beside: medianOf(pairs.map(({ beside }) => beside)),
      p50Ratio: median(pairs.map(({ alone, beside }) => beside.p50 / alone.p50)),
      p99More: median(pairs.map(({ alone, beside }) => beside.p99 - alone.p99)),
    };
  }

  async #compareOnce(hung: readonly RequestBody[], warm: readonly string[], seconds: number): Promise<Pair> {
    const queue = `bench_hung_${randomUUID()}`;
    const service = this.#startService(queue, {
      CLUSTERS_FILE: this.#clustersFile,
      ALLOWED_HOSTS: '127.0.0.0/8',
      SSH_PORT: String(this.#silentPort),
      SSH_HOST_KEYS: 'off',
    });
    const ended = once(service, 'exit');
    try {
      await this.#caller.declared(queue);
      this.#hangs = false;
      for (const name of warm) {
        const requests = Array.from({ length: WARM_UP_REQUESTS }, () =>
          this.#request(queue, listMachines(name)),
        );
        await Promise.all(requests);
      }
      await this.#measure(queue, seconds);
      const alone = await this.#measure(queue, seconds);
      this.#hangs = true;
      const end = performance.now() + seconds * 1_000;
      for (const body of hung) void this.#insist(queue, body, end);
      return { alone, beside: await this.#measure(queue, seconds) };
    } finally {
      service.kill('SIGKILL');
      await ended;
      await this.#caller.channel.deleteQueue(queue);
      await this.#caller.channel.deleteQueue(`${queue}_error`);
    }
  }

  get #clustersFile(): string {
    return join(this.#folder, 'clusters.json');
  }

  /** Requests until it gets another answer than that it should try again. */
  async #insist(queue: string, body: RequestBody, end: number): Promise<void> {
    while (performance.now() < end) {
      const code = await this.#request(queue, body);
      if (code !== 'cluster_busy' && code !== 'cluster_unreachable') return;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  async #measure(queue: string, duration: number): Promise<Latency> {
    let failed = 0;
    const latencies = await load(IN_FLIGHT, duration, async () => {
      if ((await this.#request(queue, listMachines(HEALTHY))) !== 'completed') failed++;
    });
    return { p50: percentile(latencies, 0.5), p99: percentile(latencies, 0.99), failed };
  }

  /** @returns `completed`, or the code of the error */
  async #request(queue: string, requestBody: RequestBody): Promise<string> {
    const headers = { 'timeout-ms': CALLER_TIMEOUT_MS };
    // With parameters of its own, so that it shares no run with equal requests.
    const body = { action_parameters: { metadata: { request: randomUUID() } }, ...requestBody };
    const reply = await this.#caller.request(queue, body, { headers });
    const { status, response_body: result } = JSON.parse(reply.toString());
    return status === 'completed' ? status : result.code;
  }
}

/** The name of a cluster that hangs; there are eight. */
export function hungName(n: number): string {
  return `hung${n}`;
}

export function listMachines(cluster: string): RequestBody {
  return { etcd_token: cluster, action: 'list_machines' };
}

/** @returns the median latencies, and how many requests failed in all */
function medianOf(latencies: readonly Latency[]): Latency {
  return {
    p50: median(latencies.map(({ p50 }) => p50)),
    p99: median(latencies.map(({ p99 }) => p99)),
    failed: latencies.reduce((sum, { failed }) => sum + failed, 0),
  };
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
