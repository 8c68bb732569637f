/** The fleet APIs of a row, in a process of their own (`bench/fleet-api.ts`), and a sequential walk of their lists. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get } from 'node:http';
import { endWithThisProcess } from './support.js';

/** A cluster that `bench/fleet-api.ts` serves. */
export interface FleetApiCluster {
  name: string;
  /** The number of units; each has a state. */
  units: number;
  hosts?: number;
  /** How long a page takes, in milliseconds; as many as are asked for are read at once. */
  pageMs?: number;
  /** How long a page of units or states takes in addition, in milliseconds; one page is read at a time. */
  lockedMs?: number;
  /** The standard deviation of the logarithm of `pageMs`, which is then the median. */
  jitter?: number;
  /** Under how many names it is known, such as `NAME` and `NAME-1`; 1 by default. */
  names?: number;
}

/** Where `bench/fleet-api.ts` listens. */
export interface FleetApiAddresses {
  discoveryUrl: string;
  /** Of all fleet APIs. */
  port: number;
  /** By the name of the cluster. */
  hosts: Record<string, string[]>;
}

export function namesOf({ name, names = 1 }: Pick<FleetApiCluster, 'name' | 'names'>): string[] {
  return Array.from({ length: names }, (_, index) => (index === 0 ? name : `${name}-${index}`));
}

export class FleetApis {
  readonly #process: ChildProcess;
  readonly #addresses: FleetApiAddresses;

  static async start(clusters: readonly FleetApiCluster[]): Promise<FleetApis> {
    const program = new URL('fleet-api.ts', import.meta.url).pathname;
    const child = endWithThisProcess(
      fork(program, [JSON.stringify(clusters)], {
        execArgv: ['--import=tsx'],
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      }),
    );
    const [line] = await once(child.stdout ?? child, 'data');
    return new FleetApis(child, JSON.parse(String(line)));
  }

  private constructor(child: ChildProcess, addresses: FleetApiAddresses) {
    this.#process = child;
    this.#addresses = addresses;
  }

  /** With these the service finds the clusters by their names. */
  get settings(): Record<string, string> {
    const { discoveryUrl, port } = this.#addresses;
    return { ETCD_DISCOVERY_URL: discoveryUrl, FLEET_API_PORT: String(port) };
  }

  /** How many calls a cluster has got. */
  async calls(cluster: string): Promise<number> {
    const counts: Record<string, number> = JSON.parse(await this.#get(cluster, '/calls'));
    return Object.values(counts).reduce((sum, count) => sum + count, 0);
  }

  /** Reads a list one page after the other, by the tokens of the pages. @returns its rows, parsed */
  async walk(cluster: string, path: 'machines' | 'units' | 'state'): Promise<unknown[]> {
    const agent = new Agent({ keepAlive: true });
    const rows: unknown[] = [];
    try {
      for (let query = ''; ; ) {
        const page = JSON.parse(await this.#get(cluster, `/fleet/v1/${path}${query}`, agent));
        for (const row of page.machines ?? page.units ?? page.states ?? []) rows.push(row);
        if (page.nextPageToken === undefined) return rows;
        query = `?nextPageToken=${encodeURIComponent(page.nextPageToken)}`;
      }
    } finally {
      agent.destroy();
    }
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill();
    await ended;
  }

  async #get(cluster: string, path: string, agent?: Agent): Promise<string> {
    const { hosts, port } = this.#addresses;
    const [host] = hosts[cluster] ?? [];
    const [response] = await once(get(`http://${host}:${port}${path}`, { agent }), 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  }
}
