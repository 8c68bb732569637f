import { array, mixed, object } from 'yup';
import {
  Clock,
  defineAction,
  FleetTransport,
  mapLimited,
  mapOf,
  RemoteShell,
  timeForParts,
} from '../../src/plugin.js';
import { nodesOf } from './nodes.js';
import { infoOf, type ReadContext } from './read-node.js';
import { nodeInfo } from './result.js';

/** The number of nodes read at the same time. */
const CONCURRENCY = 50;
/** The time limit for all nodes: many slow nodes must not cause that either. */
const ALL_NODES_MS = 25_000;
/** The limit for each text of one node in the result; the minimum is enough for any healthy node. */
const TEXT_BYTES = { min: 8 * 1024, max: 64 * 1024 };
/**
 * The limit for the same text of all nodes together, so that the reply, which contains two texts of each, can be sent. It
 * is divided equally between the nodes in advance.
 */
const TEXT_BYTES_OF_ALL_NODES = 3 * 1024 * 1024;

export default defineAction({
  name: 'node_info',
  summary:
    'Shows the operating system, Docker and Podman, disk use, load, memory, failed units and clock of nodes.',
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
    const share = Math.floor(TEXT_BYTES_OF_ALL_NODES / nodes.length);
    const maxTextBytes = Math.max(TEXT_BYTES.min, Math.min(TEXT_BYTES.max, share));
    const context: ReadContext = { shell, clock, signal, maxTextBytes, timeMs, endsAt };
    // In the order of the request.
    return Object.fromEntries(
      await mapLimited(nodes, CONCURRENCY, async (node) => [node.name, await infoOf(node, context)] as const),
    );
  },
});
