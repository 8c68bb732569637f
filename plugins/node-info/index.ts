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
  mapLimited,
  mapOf,
  RemoteShell,
  timeForParts,
  withTimeLimit,
} from '../../src/plugin.js';
import { type Reading, readDisk, readDocker, readMachine, readOs, UNREADABLE, unreadable } from './facts.js';
import { nodeInfo, type NodeInfo, NOTHING_KNOWN } from './result.js';

/** The number of nodes read at the same time. */
const CONCURRENCY = 50;
/** The time limit for one node: a caller times out after 30 s, and one slow node must not cause that. */
const NODE_MS = 12_000;
/** The time limit for all nodes: many slow nodes must not cause that either. */
const ALL_NODES_MS = 25_000;
const COMMAND_MS = 10_000;
/** The output limit of one command on one node; the minimum is enough for any healthy node. */
const OUTPUT_BYTES = { min: 8 * 1024, max: 64 * 1024 };
/**
 * The output limit of one command on all nodes together, so that the reply, which contains two outputs, can be sent. It
 * is divided equally between the nodes in advance.
 */
const OUTPUT_BYTES_OF_ALL_NODES = 3 * 1024 * 1024;

interface Node {
  /** Its key in the result. */
  name: string;
  /** Its address; or why it has none, beginning with an error code. */
  host: string | { problem: string };
}

export default defineAction({
  name: 'node_info',
  summary: 'Shows the operating system, Docker version, disk use, load and memory of nodes.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    // Any type: an entry that is not an address fails alone, and the other nodes are still read.
    nodes: array(mixed().nullable().meta({ type: 'string', format: 'host-address' }))
      .min(1)
      .optional()
      .meta({
        description: 'Addresses or host names. With an etcd_token: machines of that cluster, by default all.',
      }),
  }),
  result: mapOf(nodeInfo).required().meta({
    column: 'NODE',
    description: 'A map from each node to its information; a value that could not be read is null.',
  }),
  inject: { fleet: FleetTransport, shell: RemoteShell, clock: Clock },

  async handle({ parameters, cluster, signal, deadline, warn }, { fleet, shell, clock }) {
    const timeMs = Math.min(ALL_NODES_MS, timeForParts(deadline - clock.now()));
    const endsAt = clock.now() + timeMs;
    const nodes = await nodesOf(parameters.nodes, cluster, { fleet, signal, warn });
    const share = Math.floor(OUTPUT_BYTES_OF_ALL_NODES / nodes.length);
    const maxOutputBytes = Math.max(OUTPUT_BYTES.min, Math.min(OUTPUT_BYTES.max, share));
    const context: ReadContext = { shell, clock, signal, maxOutputBytes, timeMs, endsAt };
    // In the order of the request.
    return Object.fromEntries(
      await mapLimited(nodes, CONCURRENCY, async (node) => [node.name, await infoOf(node, context)] as const),
    );
  },
});

/** The nodes to read, without duplicates; each has the first name that the caller gave for it. */
async function nodesOf(
  asked: unknown[] | undefined,
  cluster: Cluster | undefined,
  { fleet, signal, warn }: { fleet: FleetTransport; signal: AbortSignal; warn: (text: string) => void },
): Promise<Node[]> {
  const nodes = asked?.map(nodeOf);
  if (cluster === undefined) {
    if (nodes === undefined)
      throw wrongNodes("An invalid 'nodes' parameter was provided! Name nodes, or give an etcd_token");
    return eachOnce(nodes);
  }
  const machines = await fleet.machines(cluster, { signal, warn });
  const own = new Set(
    machines.flatMap(({ primaryIP }) => (primaryIP === null ? [] : [canonicalHost(primaryIP)])),
  );
  const isOwn = ({ host }: Node) => typeof host !== 'string' || own.has(canonicalHost(host));
  if (nodes?.every(isOwn)) return eachOnce(nodes);
  const missing = await fleet.incompleteness(cluster, { signal });
  if (nodes === undefined) {
    if (missing !== undefined) warn(missing);
    return eachOnce(machines.map(nodeOfMachine));
  }
  const host = missing === undefined ? NOT_OF_CLUSTER : { problem: `cluster_incomplete: ${missing}` };
  return eachOnce(nodes.map((node) => (isOwn(node) ? node : { name: node.name, host })));
}

const NOT_OF_CLUSTER = {
  problem: 'invalid_parameters: not a machine of this cluster; give an address that list_machines shows',
};
const NO_ADDRESS = { problem: 'host_unreachable: fleet lists no address of this machine' };

/** A node that the caller named; null is the address that list_machines shows of a machine without one. */
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

/** A machine without an address has its id as key, so that it is not missing from the result. */
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

interface ReadContext {
  shell: RemoteShell;
  clock: Clock;
  signal: AbortSignal;
  /** The output limit of one command. */
  maxOutputBytes: number;
  /** The time limit for all nodes. */
  timeMs: number;
  /** The clock's time at which that limit ends. */
  endsAt: number;
}

/** Reads a node within its time limit. A failure is reported in its `errors` and never fails other nodes. */
async function infoOf(
  { name, host }: Node,
  { clock, timeMs, endsAt, ...context }: ReadContext,
): Promise<NodeInfo> {
  if (typeof host !== 'string') return unread(host.problem);
  const ms = Math.min(NODE_MS, endsAt - clock.now());
  if (ms <= 0)
    return unread(
      `timeout: it was not read within ${Math.ceil(timeMs / 1_000)} s, because of too many slow nodes; request fewer nodes`,
    );
  // Not 'did not respond': its commands may have waited for those of other requests.
  const message = `${name} was not read within ${Math.ceil(ms / 1_000)} s`;
  return withTimeLimit({ ms, message, clock, signal: context.signal }, (limited) =>
    readNode(host, { ...context, limited }),
  );
}

/** The information of a node that was not read. */
function unread(reason: string): NodeInfo {
  return { ...NOTHING_KNOWN, errors: [reason] };
}

/** Reads one node with concurrent commands. */
async function readNode(host: string, context: NodeContext): Promise<NodeInfo> {
  const failures: Failure[] = [];
  const read = async <T>(
    what: string,
    commands: readonly Argv[],
    parse: (text: string) => Reading<T>,
  ): Promise<{ text: string; facts: T } | null> => {
    let failure: ActionError | undefined;
    try {
      const output = await firstOutput(host, commands, context);
      ({ failure } = output);
      const { facts, problem } = parse(output.text);
      // Why a command has failed says more than what is missing in its output.
      const reason = failure?.message ?? problem;
      if (reason !== undefined) failures.push({ what, reason });
      return { text: output.text, facts };
    } catch (error) {
      context.signal.throwIfAborted();
      failures.push(failureOf(what, error instanceof ActionError ? (failure ?? error) : error));
      return null;
    }
  };
  const [disk, os, docker, machine] = await Promise.all([
    read('disk', [['df', '-P', '-m', '/var/lib/docker']], readDisk),
    // The second is for systems that have no link to it in /etc (os-release(5)).
    read(
      'os',
      [
        ['cat', '/etc/os-release'],
        ['cat', '/usr/lib/os-release'],
      ],
      readOs,
    ),
    read('docker', [['docker', 'version']], readDocker),
    read('machine', [['cat', '/proc/loadavg', '/proc/meminfo', '/proc/uptime']], readMachine),
  ]);
  const isRead = [disk, os, docker, machine].some((part) => part !== null);
  return {
    docker_disk_space_percent: disk?.facts.used_percent ?? null,
    coreos_version: os?.text ?? null,
    docker_version: docker?.text ?? null,
    errors: failureTexts(failures, isRead),
    disk: disk?.facts ?? null,
    os: os?.facts ?? null,
    docker: docker?.facts ?? null,
    load: machine?.facts.load ?? null,
    memory: machine?.facts.memory ?? null,
    uptime_seconds: machine?.facts.uptime_seconds ?? null,
  };
}

type Argv = [string, ...string[]];
type NodeContext = Pick<ReadContext, 'shell' | 'signal' | 'maxOutputBytes'> & { limited: AbortSignal };

/**
 * The output of the first command that prints anything, with its failure, if it has failed; rejects with the failure of the
 * first command when none prints anything.
 */
async function firstOutput(
  host: string,
  commands: readonly Argv[],
  { shell, limited, maxOutputBytes }: NodeContext,
): Promise<{ text: string; failure?: ActionError }> {
  const options = { signal: limited, timeoutMs: COMMAND_MS, maxOutputBytes, anyExitStatus: true };
  const failures: ActionError[] = [];
  for (const argv of commands) {
    const { stdout, truncated, failure } = await shell.run(host, argv, options);
    // Truncated output could be misread: half a number is also a number.
    if (truncated) throw unreadable(argv[0], `: it has more than ${Math.floor(maxOutputBytes / 1024)} KiB`);
    if (failure === undefined || stdout !== '') return { text: stdout, failure };
    failures.push(failure);
  }
  throw failures[0];
}

/** Why a part of a node could not be read. */
interface Failure {
  what: string;
  reason: string;
  /** The code of an error of the connection; undefined when the command has failed, or its output cannot be read. */
  code?: string;
}

function failureOf(what: string, error: unknown): Failure {
  if (!(error instanceof ActionError)) throw error;
  const { code, message } = error;
  return code === 'command_failed' || code === UNREADABLE
    ? { what, reason: message }
    : { what, reason: message, code };
}

/**
 * An error of the connection is the same for all commands of a node that runs none, so it is then reported once. When the node
 * has run some, each of the others has its own reason: a command that hangs, for example.
 */
function failureTexts(failures: readonly Failure[], isRead: boolean): string[] {
  const ranSome = isRead || failures.some(({ code }) => code === undefined);
  const texts = failures.map(({ what, reason, code }) => `${ranSome ? what : code}: ${reason}`);
  return [...new Set(texts)];
}
