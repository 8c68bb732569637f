import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import type { Row } from '../row.js';
import { BenchSshd, cpuSecondsOfTree } from '../sshd.js';
import { Caller, median, startService } from '../support.js';

const MACHINES = 100;
const LIMIT = 2;
/** How long docker takes to ask its daemon on most machines, and on the slowest one, in seconds. */
const [USUAL_S, SLOWEST_S] = [0.2, 2];
const SLOWEST = 50;

/** The machines of a real cluster use their own CPUs; so these wait without using one. */
const DOCKER = `case "$HOME" in */slow) sleep ${SLOWEST_S};; */quick) ;; *) sleep ${USUAL_S};; esac
cat <<'END'
Client:
 Version:      18.06.3-ce
 API version:  1.38

Server:
 Engine:
  Version:          18.06.3-ce
  API version:      1.38 (minimum version 1.12)
END`;

interface Reading {
  ms: number;
  serviceMs: number;
  machinesMs: number;
}

type Kind = 'first connections' | 'kept connections';
const KINDS: readonly Kind[] = ['first connections', 'kept connections'];

/** Of one machine alone, and of all. */
interface Readings {
  alone: Record<Kind, Reading[]>;
  all: Record<Kind, Reading[]>;
}

export const row: Row = {
  name: 'many-machines',
  title: `node_info on ${MACHINES} machines by SSH, against the slowest of them alone`,
  async measure({ brokerUrl, rounds }) {
    const queue = `bench_machines_${randomUUID()}`;
    const caller = await Caller.open(brokerUrl);
    const homes = { [`127.1.*.${SLOWEST}`]: '/slow', '127.2.*': '/quick' };
    const sshd = await BenchSshd.start({ programs: { docker: DOCKER }, homes });
    let service: ChildProcess | undefined;
    try {
      service = startService(queue, brokerUrl, sshd.settings);
      await caller.declared(queue);
      const { pid = 0 } = service;
      const read = async (nodes: readonly string[]): Promise<Reading> => {
        const before = { service: cpuSecondsOfTree(pid), machines: sshd.cpuSeconds() };
        const begin = performance.now();
        await nodeInfo(caller, queue, nodes);
        const ms = performance.now() - begin;
        return {
          ms,
          serviceMs: (cpuSecondsOfTree(pid) - before.service) * 1_000,
          machinesMs: (sshd.cpuSeconds() - before.machines) * 1_000,
        };
      };
      const compare = async (network: number, round: number, readings: Readings) => {
        // Addresses that were not connected to before.
        const all = addresses(network, 2 * round);
        const alone = addresses(network, 2 * round + 1).slice(SLOWEST - 1, SLOWEST);
        for (const kind of KINDS) {
          readings.alone[kind].push(await read(alone));
          readings.all[kind].push(await read(all));
        }
      };
      const [uneven, quick] = [noReadings(), noReadings()];
      // So that the first round is not that in which the code is loaded.
      await read(addresses(2, 0));
      for (let round = 1; round <= rounds; round++) {
        await compare(1, round, uneven);
        await compare(2, round, quick);
      }
      return {
        lines: KINDS.flatMap((kind) => [
          { subject: `the slowest, ${kind}`, figures: figuresOf(uneven.alone[kind]) },
          { subject: `${MACHINES}, one that slow, ${kind}`, figures: figuresOf(uneven.all[kind]) },
          { subject: `a quick one, ${kind}`, figures: figuresOf(quick.alone[kind]) },
          { subject: `${MACHINES} quick ones, ${kind}`, figures: figuresOf(quick.all[kind]) },
        ]),
        goals: KINDS.map((kind) => ({
          what: `${MACHINES} machines against the slowest of them alone, ${kind}`,
          measured: median(
            uneven.all[kind].map(({ ms }, index) => ms / (uneven.alone[kind][index]?.ms ?? Number.NaN)),
          ),
          limit: LIMIT,
        })),
      };
    } finally {
      if (service !== undefined) {
        const ended = once(service, 'exit');
        service.kill('SIGTERM');
        await ended;
      }
      await sshd.stop();
      await caller.channel.deleteQueue(queue);
      await caller.channel.deleteQueue(`${queue}_error`);
      await caller.close();
    }
  },
};

function noReadings(): Readings {
  const empty = () => ({ 'first connections': [], 'kept connections': [] });
  return { alone: empty(), all: empty() };
}

/** Addresses of all machines; each set has its own. */
function addresses(network: number, set: number): string[] {
  return Array.from({ length: MACHINES }, (_, index) => `127.${network}.${set}.${index + 1}`);
}

/** @throws Error when something of a machine could not be read, but its disk: not every machine has the folder of docker */
async function nodeInfo(caller: Caller, queue: string, nodes: readonly string[]): Promise<void> {
  const reply = await caller.request(queue, { action: 'node_info', action_parameters: { nodes } });
  const { status, response_body: body } = JSON.parse(reply.toString());
  const read = status === 'completed' ? Object.values<NodeInfo>(body) : [];
  const isRead = ({ os, docker, memory }: NodeInfo) => os !== null && docker !== null && memory !== null;
  if (read.length !== nodes.length || !read.every(isRead))
    throw new Error(`not all machines were read: ${reply.toString().slice(0, 1_000)}`);
}

interface NodeInfo {
  os: object | null;
  docker: object | null;
  memory: object | null;
}

function figuresOf(readings: readonly Reading[]): Record<string, number> {
  const of = (pick: (reading: Reading) => number) => median(readings.map(pick));
  const [service, machines] = [of(({ serviceMs }) => serviceMs), of(({ machinesMs }) => machinesMs)];
  return {
    ms: of(({ ms }) => ms),
    'service CPU ms': service,
    'machines CPU ms': machines,
    // What it takes at least, as all of them run on this computer.
    'CPU of both by cores ms': (service + machines) / availableParallelism(),
  };
}
