import { array, mixed, object } from 'yup';
import {
  ActionError,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  hostAddress,
  RemoteShell,
} from '../../src/plugin.js';
import { type Facts, readDisk, readDocker, readMachine, readOs } from './facts.js';

const MOST_NODES = 256;
const AT_ONCE = 64;
/** What one node may take in all: callers give up after 30 s, and must not do so because of one node. */
const NODE_MS = 12_000;
const COMMAND_MS = 10_000;
const MOST_BYTES = 64 * 1024;

/** What is known of a node; what could not be read is null, with the reason among the errors. */
export type NodeInfo = Facts & { errors: string[] };

export default defineAction({
  name: 'node_info',
  summary: 'Tells the operating system, Docker version, disk use, load and memory of nodes.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    nodes: array(hostAddress().required()).min(1).max(MOST_NODES).optional().meta({
      description:
        'Addresses or host names. With an etcd_token: machines of that cluster, all when left out.',
    }),
  }),
  result: mixed<Record<string, NodeInfo>>()
    .required()
    .meta({ format: 'node-info', description: 'A map from each node to what is known of it.' }),
  inject: { fleet: FleetTransport, shell: RemoteShell, clock: Clock },

  async handle({ parameters, cluster, signal }, { fleet, shell, clock }) {
    const nodes = await nodesOf(parameters.nodes, cluster, fleet, signal);
    const info: Record<string, NodeInfo> = Object.create(null);
    const left = nodes.values();
    const reader = async () => {
      for (const node of left) info[node] = await nodeInfo(node, { shell, clock, signal });
    };
    await Promise.all(Array.from({ length: AT_ONCE }, reader));
    // In the order they were asked for.
    return Object.fromEntries(
      nodes.flatMap((node) => (info[node] === undefined ? [] : [[node, info[node]]])),
    );
  },
});

async function nodesOf(
  asked: string[] | undefined,
  cluster: Cluster | undefined,
  fleet: FleetTransport,
  signal: AbortSignal,
): Promise<string[]> {
  if (cluster === undefined) {
    if (asked === undefined)
      throw wrongNodes("An invalid 'nodes' parameter was provided! Name nodes, or give an etcd_token");
    return [...new Set(asked)];
  }
  const machines = await fleet.machines(cluster, { signal });
  const own = machines.map(({ primaryIP }) => primaryIP).filter((address) => address !== null);
  const strange = asked?.filter((node) => !own.includes(node)) ?? [];
  if (strange.length > 0)
    throw wrongNodes(`Not machines of this cluster: ${strange.slice(0, 10).join(', ')}`);
  return [...new Set(asked ?? own)];
}

function wrongNodes(message: string): ActionError {
  return new ActionError('invalid_parameters', message, {
    details: { fields: [{ field: 'action_parameters.nodes', message }] },
  });
}

/** Reads everything of one node at the same time; whatever fails is told, and never fails the others. */
async function nodeInfo(
  node: string,
  { shell, clock, signal }: { shell: RemoteShell; clock: Clock; signal: AbortSignal },
): Promise<NodeInfo> {
  const errors = new Set<string>();
  const budget = new AbortController();
  const cancel = clock.after(NODE_MS, () =>
    budget.abort(new ActionError('timeout', `${node} did not answer within ${NODE_MS / 1_000} s`)),
  );
  const either = AbortSignal.any([signal, budget.signal]);
  const read = async <T>(
    what: string,
    argv: [string, ...string[]],
    parse: (text: string) => T,
  ): Promise<T | null> => {
    try {
      const options = { signal: either, timeoutMs: COMMAND_MS, maxOutputBytes: MOST_BYTES };
      return parse((await shell.run(node, argv, options)).stdout);
    } catch (error) {
      signal.throwIfAborted();
      errors.add(reasonOf(what, error));
      return null;
    }
  };
  try {
    const [disk, os, docker, machine] = await Promise.all([
      read('disk', ['df', '-P', '-m', '/var/lib/docker'], readDisk),
      read('os', ['cat', '/etc/os-release'], readOs),
      read('docker', ['docker', 'version'], readDocker),
      read('machine', ['cat', '/proc/loadavg', '/proc/meminfo', '/proc/uptime'], readMachine),
    ]);
    return {
      docker_disk_space_percent: disk?.used_percent ?? null,
      coreos_version: os?.text ?? null,
      docker_version: docker?.text ?? null,
      errors: [...errors],
      disk,
      os: os?.facts ?? null,
      docker: docker?.facts ?? null,
      load: machine?.load ?? null,
      memory: machine?.memory ?? null,
      uptime_seconds: machine?.uptime_seconds ?? null,
    };
  } finally {
    cancel();
  }
}

function reasonOf(what: string, error: unknown): string {
  if (!(error instanceof ActionError)) throw error;
  // Why a node cannot be reached is the same whatever was to be read there.
  if (error.code !== 'command_failed' && error.code !== UNREADABLE) return `${error.code}: ${error.message}`;
  return [`${what}: ${error.message}`, ...lastLine(error.details)].join(': ');
}

/** What a command said last before it failed. */
function lastLine(details: unknown): string[] {
  if (typeof details !== 'object' || details === null || !('stderr' in details)) return [];
  return String(details.stderr).trim().split('\n').slice(-1);
}

const UNREADABLE = 'answer_unreadable';
