import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_SIZE, pageOf, readPageToken } from '../../src/sandbox/paging.js';
import type { Row } from '../row.js';
import { Caller, median, startService } from '../support.js';

const REQUESTS = 500;
const UNITS = 250;
const PAGE_MS = 50;
const MOST_WALKS = 2;
/** All units have it in their names. */
const COMMON = 'application';

interface Burst {
  /** How often the first page of the units was read. */
  walks: number;
  /** How many runs the lines of the requests name. */
  runs: number;
  ms: number;
  /** How many answers are older than their request. */
  old: number;
}

interface UnitInReply {
  options: { value: string }[];
}

/** A fleet API that shows in each unit how many requests had been sent when its page was read. */
class CountingFleet {
  sent = 0;
  walks = 0;
  readonly #server = createServer((request, response) => void this.#respond(request, response));

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://fleet');
    const tokens = url.searchParams.getAll('nextPageToken');
    const token = readPageToken(tokens, PAGE_SIZE);
    const isUnits = url.pathname === '/fleet/v1/units';
    if (isUnits && tokens.length === 0) this.walks++;
    // Before the answer takes its time: the oldest that it can be.
    const { sent } = this;
    await delay(PAGE_MS);
    response.setHeader('content-type', 'application/json');
    if (!isUnits || typeof token === 'string')
      return void response.end(JSON.stringify({ machines: [MACHINE] }));
    const page = pageOf(
      Array.from({ length: UNITS }, (_, index) => unit(index, sent)),
      token,
    );
    if (page === 'panic') return void response.destroy();
    response.end(JSON.stringify({ units: page.items, nextPageToken: page.nextPageToken || undefined }));
  }
}

export const row: Row = {
  name: 'coalescing',
  title: `${REQUESTS} list_units of one cluster at once, equal ones and ones with different parameters`,
  async measure({ brokerUrl, rounds }) {
    const fleet = new CountingFleet();
    const folder = mkdtempSync(join(tmpdir(), 'bench-coalescing-'));
    const caller = await Caller.open(brokerUrl);
    const queue = `bench_coalescing_${randomUUID()}`;
    let service: ChildProcess | undefined;
    try {
      const clusters = join(folder, 'clusters.json');
      writeFileSync(clusters, JSON.stringify({ c: [await fleet.listen()] }));
      service = startService(queue, brokerUrl, {
        CLUSTERS_FILE: clusters,
        ALLOWED_HOSTS: '127.0.0.1',
        PREFETCH: '1000',
      });
      const runs = runsIn(service);
      await caller.declared(queue);
      const burst = async (parametersOf: (index: number) => object): Promise<Burst> => {
        runs.clear();
        fleet.walks = 0;
        const begin = performance.now();
        const ages = await Promise.all(
          Array.from({ length: REQUESTS }, async (_, index) => {
            const sent = ++fleet.sent;
            const reply = await caller.request(queue, {
              etcd_token: 'c',
              action: 'list_units',
              action_parameters: parametersOf(index),
            });
            return seenIn(reply) - sent;
          }),
        );
        const ms = performance.now() - begin;
        // The last lines are written after their replies.
        await delay(200);
        return { walks: fleet.walks, runs: runs.size, ms, old: ages.filter((age) => !(age >= 0)).length };
      };
      await burst(() => ({ name: 'warm-up' }));
      const equal: Burst[] = [];
      const different: Burst[] = [];
      for (let round = 0; round < rounds; round++) {
        equal.push(await burst(() => ({ name: `${COMMON}*` })));
        // Only to compare with, and it takes long.
        if (round === 0) different.push(await burst((index) => ({ name: patternOf(index) })));
      }
      return {
        lines: [
          { subject: 'equal', figures: figuresOf(equal) },
          { subject: 'different parameters', figures: figuresOf(different) },
        ],
        goals: [
          {
            what: `walks for ${REQUESTS} equal requests, the most of all rounds`,
            measured: Math.max(...equal.map(({ walks }) => walks)),
            limit: MOST_WALKS,
          },
          {
            what: 'answers older than their request, of all rounds',
            measured: [...equal, ...different].reduce((sum, { old }) => sum + old, 0),
            limit: 0,
          },
        ],
      };
    } finally {
      if (service !== undefined) await stopped(service);
      fleet.close();
      await caller.channel.deleteQueue(queue);
      await caller.channel.deleteQueue(`${queue}_error`);
      await caller.close();
      rmSync(folder, { recursive: true });
    }
  },
};

/** The runs that the lines of completed requests name: a shared one once, and each other request's own. */
function runsIn(service: ChildProcess): Set<string> {
  const runs = new Set<string>();
  if (service.stderr === null) throw new Error('the log of the service is not read');
  createInterface({ input: service.stderr }).on('line', (line) => {
    const { message, request, shared_run: shared = request } = JSON.parse(line);
    if (message === 'request completed') runs.add(shared);
  });
  return runs;
}

/** The smallest number in the units of a reply; none: as new as can be. */
function seenIn(reply: Buffer): number {
  const { status, response_body: body } = JSON.parse(reply.toString());
  if (status !== 'completed') throw new Error(`a request failed: ${JSON.stringify(body)}`);
  return Math.min(...body.map(({ options }: UnitInReply) => Number(options[0]?.value)));
}

/** A pattern of its own for each request, which all units match. */
function patternOf(index: number): string {
  const letters = Array.from(COMMON, (letter, bit) => ((index >> bit) & 1 ? '?' : letter));
  return `${letters.join('')}*`;
}

function figuresOf(bursts: readonly Burst[]): Record<string, number> {
  const of = (pick: (burst: Burst) => number) => median(bursts.map(pick));
  return {
    walks: of(({ walks }) => walks),
    'runs in the log': of(({ runs }) => runs),
    'all answered after ms': of(({ ms }) => ms),
  };
}

async function stopped(service: ChildProcess): Promise<void> {
  const ended = once(service, 'exit');
  service.kill('SIGTERM');
  await ended;
}

const MACHINE = { id: '1'.repeat(32), primaryIP: '127.0.0.1', metadata: {} };

function unit(index: number, sent: number): object {
  return {
    name: `${COMMON}-${String(index).padStart(6, '0')}.service`,
    desiredState: 'launched',
    currentState: 'launched',
    machineID: MACHINE.id,
    options: [
      { section: 'X-Bench', name: 'Sent', value: String(sent) },
      { section: 'Service', name: 'ExecStart', value: `/usr/bin/docker run --rm --name web${index} web:1.4` },
    ],
  };
}
