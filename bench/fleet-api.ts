/**
 * Fleet APIs on loopback, and the discovery that names their hosts, in a process of their own, so that they take no time of what is
 * measured. Rows are written once, at the start. Every host has an address of its own, and all have one port, as real ones do. `GET /calls`
 * of a host returns how many calls its cluster has got.
 *
 * Usage: node --import=tsx bench/fleet-api.ts CLUSTERS     (JSON: a list of `FleetApiCluster`)
 * Writes one line: JSON, `FleetApiAddresses`.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_SIZE, pageOf, readPageToken } from '../src/sandbox/paging.js';
import { type FleetApiAddresses, type FleetApiCluster, namesOf } from './fleet-apis.js';

const MACHINES = 3;

class Api {
  readonly #settings: FleetApiCluster;
  readonly #collections: ReadonlyMap<string, { of: string; rows: readonly string[] }>;
  /** Settles when the last page that was asked for has been read. */
  #lock: Promise<void> = Promise.resolve();
  readonly calls: Record<string, number> = { units: 0, state: 0, machines: 0 };

  constructor(settings: FleetApiCluster, hosts: readonly string[]) {
    const machineAt = (index: number) => machine(index, hosts[index] ?? `10.0.0.${index}`);
    this.#settings = settings;
    const rows = (count: number, row: (index: number) => unknown) =>
      Array.from({ length: count }, (_, index) => JSON.stringify(row(index)));
    this.#collections = new Map([
      ['machines', { of: 'machines', rows: rows(Math.max(MACHINES, hosts.length), machineAt) }],
      ['units', { of: 'units', rows: rows(settings.units, unit) }],
      ['state', { of: 'states', rows: rows(settings.units, state) }],
    ]);
  }

  async respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://fleet');
    response.setHeader('content-type', 'application/json');
    if (url.pathname === '/calls') return void response.end(JSON.stringify(this.calls));
    const path = url.pathname.replace('/fleet/v1/', '');
    const collection = this.#collections.get(path);
    const token = readPageToken(url.searchParams.getAll('nextPageToken'), PAGE_SIZE);
    if (collection === undefined || typeof token === 'string') {
      const error = collection === undefined ? { code: 404 } : { code: 400, message: token };
      response.statusCode = error.code;
      return void response.end(JSON.stringify({ error }));
    }
    this.calls[path] = (this.calls[path] ?? 0) + 1;
    await this.#work(path);
    const page = pageOf(collection.rows, token);
    if (page === 'panic') return void response.destroy();
    const fields = [
      ...(page.items.length > 0 ? [`"${collection.of}":[${page.items.join(',')}]`] : []),
      ...(page.nextPageToken === '' ? [] : [`"nextPageToken":"${page.nextPageToken}"`]),
    ];
    response.end(`{${fields.join(',')}}\n`);
  }

  /** What a call costs the server. */
  async #work(path: string): Promise<void> {
    const { pageMs = 0, lockedMs = 0, jitter } = this.#settings;
    if (path !== 'machines' && lockedMs > 0) {
      this.#lock = this.#lock.then(async () => delay(lockedMs));
      await this.#lock;
    }
    const ms = pageMs * (jitter === undefined ? 1 : Math.exp(jitter * normal()));
    if (ms > 0) await delay(ms);
  }
}

/** A random number of the standard normal distribution (Box and Muller). */
function normal(): number {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function machine(index: number, primaryIP: string): unknown {
  return { id: idOf(index), metadata: { region: 'local', role: 'worker' }, primaryIP };
}

/** About 700 bytes of JSON, as for a container. */
function unit(index: number): unknown {
  const service = nameOf(index);
  const container = service.replace('.service', '');
  return {
    currentState: 'launched',
    desiredState: 'launched',
    machineID: idOf(index % MACHINES),
    name: service,
    options: [
      { section: 'Unit', name: 'Description', value: `${container}, number ${index}` },
      { section: 'Unit', name: 'After', value: 'docker.service' },
      { section: 'Service', name: 'ExecStartPre', value: `-/usr/bin/docker rm -f ${container}` },
      {
        section: 'Service',
        name: 'ExecStart',
        value: `/usr/bin/docker run --rm --name ${container} -p ${10_000 + index}:80 registry.local/web:1.4`,
      },
      { section: 'Service', name: 'ExecStop', value: `/usr/bin/docker stop ${container}` },
      { section: 'Service', name: 'Restart', value: 'always' },
      { section: 'X-Fleet', name: 'MachineMetadata', value: 'role=worker' },
    ],
  };
}

function state(index: number): unknown {
  return {
    hash: hexOf(nameOf(index), 40),
    machineID: idOf(index % MACHINES),
    name: nameOf(index),
    systemdActiveState: 'active',
    systemdLoadState: 'loaded',
    systemdSubState: 'running',
  };
}

function nameOf(index: number): string {
  return `web-${String(index).padStart(6, '0')}.service`;
}

/** As machine ids, and the hashes of unit files, are. */
function hexOf(text: string, digits: number): string {
  return createHash('sha1').update(text).digest('hex').slice(0, digits);
}

function idOf(index: number): string {
  return hexOf(`machine ${index}`, 32);
}

const clusters: FleetApiCluster[] = JSON.parse(process.argv[2] ?? '[]');
const hostsOf = new Map<string, string[]>();
let port = 0;
for (const [number, settings] of clusters.entries()) {
  const hosts = Array.from({ length: settings.hosts ?? 1 }, (_, host) => `127.1.${number + 1}.${host + 1}`);
  const api = new Api(settings, hosts);
  for (const host of hosts) port = await listen((...call) => void api.respond(...call), host, port);
  for (const name of namesOf(settings)) hostsOf.set(name, hosts);
}
const discoveryPort = await listen(
  (request, response) => {
    const hosts = hostsOf.get(request.url?.split('/').at(-1) ?? '') ?? [];
    const nodes = hosts.map((host, index) => ({ key: `/m${index}`, value: `m${index}=http://${host}:2380` }));
    response.end(JSON.stringify({ action: 'get', node: { key: '/discovery', dir: true, nodes } }));
  },
  '127.0.0.1',
  0,
);
const addresses: FleetApiAddresses = {
  discoveryUrl: `http://127.0.0.1:${discoveryPort}/v2/keys/discovery`,
  port,
  hosts: Object.fromEntries(hostsOf),
};
process.stdout.write(`${JSON.stringify(addresses)}\n`);
process.on('disconnect', () => process.exit());

/** @param from the port; 0: any. @returns the port */
async function listen(listener: RequestListener, host: string, from: number): Promise<number> {
  const server = createServer(listener);
  server.listen(from, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
