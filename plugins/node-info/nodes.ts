import {
  ActionError,
  canonicalHost,
  type Cluster,
  type FleetTransport,
  isHostAddress,
  type MachineAddress,
  type Warn,
} from '../../src/plugin.js';

export interface Node {
  /** Its key in the result. */
  name: string;
  /** Its address; or why it has none, beginning with an error code. */
  host: string | { problem: string };
}

/** The nodes to read, without duplicates; each has the first name that the caller gave for it. */
export async function nodesOf(
  asked: unknown[] | undefined,
  cluster: Cluster | undefined,
  { fleet, signal, warn }: { fleet: FleetTransport; signal: AbortSignal; warn: Warn },
): Promise<Node[]> {
  const nodes = asked?.map(nodeOf);
  if (cluster === undefined) {
    if (nodes === undefined)
      throw wrongNodes("An invalid 'nodes' parameter was provided! Name nodes, or give an etcd_token");
    return eachOnce(nodes);
  }
  const machines = await fleet.addresses(cluster, { signal, warn });
  const own = new Set(machines.flatMap(({ host }) => (host === null ? [] : [canonicalHost(host)])));
  const isOwn = ({ host }: Node) => typeof host !== 'string' || own.has(canonicalHost(host));
  if (nodes?.every(isOwn)) return eachOnce(nodes);
  const missing = await fleet.incompleteness(cluster, {
    signal,
    warn: nodes === undefined ? warn : undefined,
  });
  if (nodes === undefined) {
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
function nodeOfMachine({ id, host }: MachineAddress): Node {
  if (host !== null) return { name: host, host };
  return { name: id ?? '(null)', host: NO_ADDRESS };
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
