import { array, mixed, object } from 'yup';
import {
  ActionError,
  canonicalHost,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  hostAddress,
  RemoteShell,
  withTimeLimit,
} from '../../src/plugin.js';
import {
  type Facts,
  NOTHING_KNOWN,
  readDisk,
  readDocker,
  readMachine,
  readOs,
  UNREADABLE,
  unreadable,
} from './facts.js';

const MOST_NODES = 256;
/** Well below the hosts that the shell connects to at once: a node's time must not pass while it waits its turn. */
const AT_ONCE = 50;
/** What one node may take in all: callers give up after 30 s, and must not do so because of one node. */
const NODE_MS = 12_000;
const COMMAND_MS = 10_000;
const MOST_BYTES = 64 * 1024;

/** What is known of a node; what could not be read is null, with the reason among the errors. */
export type NodeInfo = Facts & { errors: string[] };

interface Node {
  /** The key of its answer. */
  name: string;
  /** Where it is reached; null when nobody says. */
  host: string | null;
}

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
    const info = new Map<string, NodeInfo>();
    const left = nodes.values();
    const reader = async () => {
      for (const node of left) info.set(node.name, await nodeInfo(node, { shell, clock, signal }));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, reader));
    // In the order they were asked for.
    return Object.fromEntries(
      nodes.flatMap(({ name }) => {
        const found = info.get(name);
        return found === undefined ? [] : [[name, found]];
      }),
    );
  },
});

/** The nodes to read, each once, under the name that the caller gave first. */
async function nodesOf(
  asked: string[] | undefined,
  cluster: Cluster | undefined,
  fleet: FleetTransport,
  signal: AbortSignal,
): Promise<Node[]> {
  const nodes = asked?.map((host) => ({ name: host, host }));
  if (cluster === undefined) {
    if (nodes === undefined)
      throw wrongNodes("An invalid 'nodes' parameter was provided! Name nodes, or give an etcd_token");
    return eachOnce(nodes);
  }
  const machines = await fleet.machines(cluster, { signal });
  // A machine without an address is told under its id: left out, nobody would miss it.
  if (nodes === undefined)
    return eachOnce(machines.map(({ id, primaryIP }) => ({ name: primaryIP ?? id, host: primaryIP })));
  const own = new Set(
    machines.flatMap(({ primaryIP }) => (primaryIP === null ? [] : [canonicalHost(primaryIP)])),
  );
  const strange = nodes.filter(({ host }) => !own.has(canonicalHost(host))).map(({ name }) => name);
  if (strange.length > 0)
    throw wrongNodes(
      `Not machines of this cluster: ${strange.slice(0, 10).join(', ')}; give the addresses that list_machines shows`,
    );
  return eachOnce(nodes);
}

function eachOnce(nodes: readonly Node[]): Node[] {
  const byHost = new Map<string, Node>();
  for (const node of nodes) {
    const key = canonicalHost(node.name);
    if (!byHost.has(key)) byHost.set(key, node);
  }
  return [...byHost.values()];
}

function wrongNodes(message: string): ActionError {
  return new ActionError('invalid_parameters', message, {
    details: { fields: [{ field: 'action_parameters.nodes', message }] },
  });
}

interface Means {
  shell: RemoteShell;
  clock: Clock;
  signal: AbortSignal;
}

/** Reads a node within its time; whatever fails is told, and never fails the others. */
async function nodeInfo({ name, host }: Node, { shell, clock, signal }: Means): Promise<NodeInfo> {
  if (host === null)
    return { ...NOTHING_KNOWN, errors: ['host_unreachable: fleet lists no address of this machine'] };
  const message = `${name} did not answer within ${NODE_MS / 1_000} s`;
  return withTimeLimit({ ms: NODE_MS, message, clock, signal }, (limited) =>
    readNode(host, { shell, signal, limited }),
  );
}

/** Reads everything of one node at the same time. */
async function readNode(
  host: string,
  { shell, signal, limited }: { shell: RemoteShell; signal: AbortSignal; limited: AbortSignal },
): Promise<NodeInfo> {
  const errors = new Set<string>();
  const read = async <T>(
    what: string,
    argv: [string, ...string[]],
    parse: (text: string) => T,
  ): Promise<T | null> => {
    try {
      const options = { signal: limited, timeoutMs: COMMAND_MS, maxOutputBytes: MOST_BYTES };
      const { stdout, truncated } = await shell.run(host, argv, options);
      // What was cut off could be read as something else: half a number is a number, too.
      if (truncated) throw unreadable(argv[0], `: it is more than ${MOST_BYTES / 1024} KiB`);
      return parse(stdout);
    } catch (error) {
      signal.throwIfAborted();
      errors.add(reasonOf(what, error));
      return null;
    }
  };
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
