import { isIP } from 'node:net';
import type { Cluster } from '../../api/cluster.js';
import type { Machine } from '../../api/fleet-transport.js';
import type { Clock } from '../../lib/clock.js';
import { hostOf } from '../../lib/host-of.js';
import type { Logger } from '../../lib/logger.js';
import { OutageLog } from '../../lib/outage-log.js';
import { remember } from '../../lib/remember.js';
import { runWithin } from '../../lib/time-limit.js';
import { untilAborted } from '../../lib/until-aborted.js';
import type { ConnectionPolicy } from '../../network/connection-policy.js';
import type { ClusterHosts } from './discovery.js';
import { type MemberHost, unlistedHosts } from './unlisted-hosts.js';

/** How long to wait for the addresses of hosts that discovery names by name, in milliseconds. */
const RESOLVE_MS = 1_000;
const MAX_REMEMBERED = 1_000;

/** What a cluster is known not to list. */
export interface Incompleteness {
  /** The hosts of discovery that fleet does not list as machines. */
  unlisted: readonly string[];
  /** False: hosts and machines cannot be compared, and some of these hosts may be listed under other addresses. */
  areKnown: boolean;
  /** A sentence for people. */
  sentence: string;
}

export interface CompletenessOptions {
  policy: ConnectionPolicy;
  clock: Clock;
  log: Logger;
}

/** Compares the machines that fleet lists with the hosts that discovery names, and logs when a cluster lacks some. */
export class Completeness {
  readonly #options: CompletenessOptions;
  readonly #outages = new Map<string, OutageLog>();

  constructor(options: CompletenessOptions) {
    this.#options = options;
  }

  /** @returns undefined when nothing is known to be missing; always for endpoints that may be a proxy's */
  async check(
    cluster: Cluster,
    { endpoints, fromDiscovery }: ClusterHosts,
    machines: readonly Machine[],
  ): Promise<Incompleteness | undefined> {
    if (!fromDiscovery) return undefined;
    const hosts = await Promise.all(endpoints.map((endpoint) => this.#memberAt(endpoint)));
    const unlisted = unlistedHosts(hosts, machines);
    if (unlisted.length === 0) {
      this.#outages.get(cluster.key)?.succeeded();
      this.#outages.delete(cluster.key);
      return undefined;
    }
    const sentence = sentenceOf(unlisted, hosts.length, machines.length);
    this.#outageOf(cluster).failed({ reason: sentence });
    return { unlisted, areKnown: unlisted.length < hosts.length, sentence };
  }

  async #memberAt(endpoint: URL): Promise<MemberHost> {
    const host = hostOf(endpoint);
    if (isIP(host) !== 0) return { host, addresses: [host] };
    // A name that cannot be resolved, or that policy forbids, cannot be compared.
    const { policy, clock } = this.#options;
    const reason = () => new Error(`no addresses within ${RESOLVE_MS} ms`);
    const addresses = await runWithin({ ms: RESOLVE_MS, clock, reason }, (signal) =>
      untilAborted(policy.resolve(host, { signal }), signal),
    ).catch(() => undefined);
    return { host, addresses };
  }

  #outageOf(cluster: Cluster): OutageLog {
    const known = this.#outages.get(cluster.key);
    if (known !== undefined) return known;
    const { log, clock } = this.#options;
    const outage = new OutageLog(
      log,
      clock,
      { began: 'cluster incomplete', ended: 'cluster complete' },
      { cluster: cluster.hash },
    );
    remember(this.#outages, cluster.key, outage, MAX_REMEMBERED);
    return outage;
  }
}

function sentenceOf(unlisted: readonly string[], hosts: number, machines: number): string {
  const named = `Discovery names ${hosts} hosts of this cluster`;
  const lists = `fleet lists ${machines} ${machines === 1 ? 'machine' : 'machines'}`;
  const effect = 'machines, units and states may be missing';
  if (unlisted.length === hosts) return `${named}, but ${lists}: ${effect}`;
  const shown = unlisted.slice(0, 5).join(', ');
  const more = unlisted.length > 5 ? ` and ${unlisted.length - 5} more` : '';
  return `${named}, but ${lists}, without ${shown}${more}: ${effect}`;
}
