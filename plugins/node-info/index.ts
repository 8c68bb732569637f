import { array, mixed, object } from 'yup';
import {
  ActionError,
  canonicalHost,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  isHostAddress,
  type Machine,
  mapOf,
  RemoteShell,
  withTimeLimit,
} from '../../src/plugin.js';
import { readDisk, readDocker, readMachine, readOs, UNREADABLE, unreadable } from './facts.js';
import { nodeInfo, type NodeInfo, NOTHING_KNOWN } from './result.js';

/** Well below the shell's limit of hosts at the same time: a node must not lose its time while it waits there. */
const AT_ONCE = 50;
/** The time for one node in all: callers give up after 30 s, and one node must not be the reason. */
const NODE_MS = 12_000;
/** The time for all nodes together. */
const ALL_NODES_MS = 25_000;
/** The time that is left before the deadline of the request, so that the reply arrives before it. */
const MARGIN_MS = 1_000;
const COMMAND_MS = 10_000;
/** How much output of one command is read: enough for any healthy node, and with an upper limit. */
const BYTES = { least: 8 * 1024, most: 64 * 1024 };
/**
 * How much output one command may have on all nodes together: the result contains two texts in full, and must stay below
 * the largest reply. Divided by the number of nodes, so that no node uses the part of another.
 */
const BYTES_OF_ALL_NODES = 3 * 1024 * 1024;

interface Node {
  /** The key of its result. */
  name: string;
  /** Its address; or the reason why it cannot be reached, starting with an error code. */
  host: string | { problem: string };
}

export default defineAction({
  name: 'node_info',
  summary: 'Shows the operating system, Docker version, disk use, load and memory of nodes.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    // An invalid entry fails alone, not with the others.
    nodes: array(mixed().nullable().meta({ type: 'string', format: 'host-address' }))
      .min(1)
      .optional()
      .meta({
        description:
          'Addresses or host names. With an etcd_token: machines of that cluster, all when left out.',
      }),
  }),
  result: mapOf(nodeInfo).required().meta({
    description: 'A map from each node to what is known of it; what could not be read is null.',
  }),
  inject: { fleet: FleetTransport, shell: RemoteShell, clock: Clock },

  async handle({ parameters, cluster, signal, deadline }, { fleet, shell, clock }) {
    const timeMs = timeForAll(deadline - clock.now());
    const endsAt = clock.now() + timeMs;
    const nodes = await nodesOf(parameters.nodes, cluster, fleet, signal);
    const info = new Map<string, NodeInfo>();
    const left = nodes.values();
    const share = Math.floor(BYTES_OF_ALL_NODES / nodes.length);
    const maxOutputBytes = Math.max(BYTES.least, Math.min(BYTES.most, share));
    const means: Means = { shell, clock, signal, maxOutputBytes, timeMs, endsAt };
    const reader = async () => {
      for (const node of left) info.set(node.name, await infoOf(node, means));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, reader));
    // In the order of the request.
    return Object.fromEntries(
      nodes.flatMap(({ name }) => {
        const found = info.get(name);
        return found === undefined ? [] : [[name, found]];
      }),
    );
  },
});

/** How long reading all nodes may take, with this much time left until the deadline. */
function timeForAll(leftMs: number): number {
  return Math.min(ALL_NODES_MS, leftMs - Math.min(MARGIN_MS, leftMs / 2));
}

/** The nodes to read, without duplicates; each has the first name that the caller gave for it. */
async function nodesOf(
  asked: unknown[] | undefined,
  cluster: Cluster | undefined,
  fleet: FleetTransport,
  signal: AbortSignal,
): Promise<Node[]> {
  const nodes = asked?.map(nodeOf);
  if (cluster === undefined) {
    if (nodes === undefined)
      throw wrongNodes("An invalid 'nodes' parameter was provided! Name nodes, or give an etcd_token");
    return eachOnce(nodes);
  }
  const machines = await fleet.machines(cluster, { signal });
  if (nodes === undefined) return eachOnce(machines.map(nodeOfMachine));
  const own = new Set(
    machines.flatMap(({ primaryIP }) => (primaryIP === null ? [] : [canonicalHost(primaryIP)])),
  );
  return eachOnce(
    nodes.map(({ name, host }) =>
      typeof host !== 'string' || own.has(canonicalHost(host))
        ? { name, host }
        : { name, host: NOT_OF_CLUSTER },
    ),
  );
}

const NOT_OF_CLUSTER = {
  problem: 'invalid_parameters: not a machine of this cluster; give an address that list_machines shows',
};
const NO_ADDRESS = { problem: 'host_unreachable: fleet lists no address of this machine' };

/** A node as a caller names it; null is the address that list_machines shows of a machine without one. */
function nodeOf(entry: unknown): Node {
  if (entry === null) return { name: '(null)', host: NO_ADDRESS };
  if (typeof entry === 'string' && isHostAddress(entry)) return { name: entry, host: entry };
  const name = typeof entry === 'string' ? entry : nameOf(entry);
  return { name, host: { problem: 'invalid_parameters: not an IP address or a host name' } };
}

/** The key of an entry that is not text: its JSON in parentheses, so that it cannot equal an address. */
function nameOf(entry: unknown): string {
  if (typeof entry === 'bigint') return `(${entry})`;
  const json = JSON.stringify(entry, (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return `(${json})`;
}

/** A machine without an address appears under its id. */
function nodeOfMachine({ id, primaryIP }: Machine): Node {
  if (primaryIP !== null) return { name: primaryIP, host: primaryIP };
  return { name: id, host: NO_ADDRESS };
}

function eachOnce(nodes: readonly Node[]): Node[] {
  const byKey = new Map<string, Node>();
  for (const node of nodes) {
    const key = typeof node.host === 'string' ? canonicalHost(node.name) : node.name;
    if (!byKey.has(key)) byKey.set(key, node);
  }
  return [...byKey.values()];
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
  /** How much output of one command is read. */
  maxOutputBytes: number;
  /** The time limit for all nodes. */
  timeMs: number;
  /** When it ends, in the clock's milliseconds. */
  endsAt: number;
}

/** Reads a node within its time; a failure is reported, and does not fail the others. */
async function infoOf({ name, host }: Node, { clock, timeMs, endsAt, ...means }: Means): Promise<NodeInfo> {
  if (typeof host !== 'string') return unread(host.problem);
  const ms = Math.min(NODE_MS, endsAt - clock.now());
  if (ms <= 0)
    return unread(`timeout: its turn did not come within ${Math.ceil(timeMs / 1_000)} s; name fewer nodes`);
  const message = `${name} did not answer within ${Math.ceil(ms / 1_000)} s`;
  return withTimeLimit({ ms, message, clock, signal: means.signal }, (limited) =>
    readNode(host, { ...means, limited }),
  );
}

/** The result of a node that could not be read, and why. */
function unread(reason: string): NodeInfo {
  return { ...NOTHING_KNOWN, errors: [reason] };
}

/** Reads one node with concurrent commands. */
async function readNode(
  host: string,
  {
    shell,
    signal,
    limited,
    maxOutputBytes,
  }: Omit<Means, 'clock' | 'timeMs' | 'endsAt'> & { limited: AbortSignal },
): Promise<NodeInfo> {
  const errors = new Set<string>();
  const read = async <T>(
    what: string,
    argv: [string, ...string[]],
    parse: (text: string) => T,
  ): Promise<T | null> => {
    try {
      const options = { signal: limited, timeoutMs: COMMAND_MS, maxOutputBytes };
      const { stdout, truncated } = await shell.run(host, argv, options);
      // Cut output could have another meaning: half a number is a number, too.
      if (truncated) throw unreadable(argv[0], `: it is more than ${Math.floor(maxOutputBytes / 1024)} KiB`);
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
  // The reason why a node cannot be reached does not depend on what was read there.
  if (error.code !== 'command_failed' && error.code !== UNREADABLE) return `${error.code}: ${error.message}`;
  return [`${what}: ${error.message}`, ...lastLine(error.details)].join(': ');
}

/** The last line of a failed command's error output. */
function lastLine(details: unknown): string[] {
  if (typeof details !== 'object' || details === null || !('stderr' in details)) return [];
  return String(details.stderr).trim().split('\n').slice(-1);
}
