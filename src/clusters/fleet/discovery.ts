import { isIPv6 } from 'node:net';
import { ActionError } from '../../api/action-error.js';
import { Cluster, tokenOf } from '../../api/cluster.js';
import { OutageLog } from '../../lib/outage-log.js';
import { remember } from '../../lib/remember.js';
import { HttpFailure } from '../../network/bounded-call.js';
import type { HttpClient } from '../../network/http-client.js';
import type { Clock } from '../../lib/clock.js';
import type { EtcdResolver } from '../../api/etcd-resolver.js';
import type { Logger } from '../../lib/logger.js';
import { untilAborted } from '../../lib/until-aborted.js';
import type { NamedClusters } from '../clusters-file.js';
import { memberHosts, invalidDiscoveryResponse } from './member-hosts.js';

export interface DiscoveryOptions {
  http: HttpClient;
  /**
   * The base URL of the discovery service (`https://discovery.etcd.io`), or of etcd's v2 keys
   * (`http://etcd:2379/v2/keys/discovery`).
   */
  discoveryUrl: string;
  /** The port of the fleet APIs; discovery lists only etcd's peer ports. */
  fleetPort: number;
  namedClusters: NamedClusters;
  clock: Clock;
  log: Logger;
}

/** The hosts of a cluster. */
export interface ClusterHosts {
  /** The base URLs of their fleet APIs. */
  endpoints: readonly URL[];
  /** The members of discovery that are not used, because they have no valid host. */
  ignored: readonly string[];
  /** Whether discovery names the hosts. `CLUSTERS_FILE` may name proxies instead of hosts. */
  fromDiscovery: boolean;
}

interface Cached {
  hosts: ClusterHosts;
  at: number;
}

const FRESH_MS = 60_000;
/** How long cached endpoints are used while discovery is down: members rarely change. */
const STALE_MS = 60 * 60_000;
const TIMEOUT_MS = 10_000;
const MAX_CACHED = 1_000;

/**
 * Finds a cluster's hosts by its etcd token: in `CLUSTERS_FILE`, else with the discovery service
 * (https://etcd.io/docs/v2.3/discovery_protocol/).
 */
export class Discovery implements EtcdResolver {
  readonly #options: DiscoveryOptions;
  readonly #outage: OutageLog;
  readonly #cached = new Map<string, Cached>();
  readonly #pending = new Map<string, Promise<ClusterHosts>>();

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#outage = new OutageLog(options.log, options.clock, {
      began: 'discovery lost',
      ended: 'discovery restored',
    });
  }

  /** @throws ActionError `cluster_not_found`, `cluster_empty`, `discovery_unreachable`, `cluster_answer_invalid` */
  async endpoints(cluster: Cluster, options: { signal: AbortSignal }): Promise<URL[]> {
    return [...(await this.hosts(cluster, options)).endpoints];
  }

  /** As `endpoints`, with what else is known about the hosts. */
  async hosts(cluster: Cluster, { signal }: { signal: AbortSignal }): Promise<ClusterHosts> {
    signal.throwIfAborted();
    const hosts = await this.#find(tokenOf(cluster), signal);
    // Copies, because URLs are mutable and these are shared.
    return { ...hosts, endpoints: hosts.endpoints.map((url) => new URL(url)) };
  }

  async #find(token: string, signal: AbortSignal): Promise<ClusterHosts> {
    const named = this.#options.namedClusters.get(token);
    if (named !== undefined) return { endpoints: named, ignored: [], fromDiscovery: false };
    const cached = this.#cached.get(token);
    if (cached !== undefined && this.#age(cached) < FRESH_MS) return cached.hosts;
    return untilAborted(this.#shared(token, cached), signal);
  }

  /** Call this when none of a cluster's hosts responded: the next call of `endpoints` asks discovery again. */
  forget(cluster: Cluster): void {
    const cached = this.#cached.get(tokenOf(cluster));
    if (cached !== undefined) cached.at = Math.min(cached.at, this.#options.clock.now() - FRESH_MS);
  }

  /** Concurrent calls for the same token share one lookup; only its timeout ends it, not the signal of a caller. */
  #shared(token: string, cached: Cached | undefined): Promise<ClusterHosts> {
    const pending = this.#pending.get(token);
    if (pending !== undefined) return pending;
    const lookup = this.#lookUp(token, cached).finally(() => this.#pending.delete(token));
    this.#pending.set(token, lookup);
    return lookup;
  }

  async #lookUp(token: string, cached: Cached | undefined): Promise<ClusterHosts> {
    try {
      const hosts = await this.#ask(token);
      this.#outage.succeeded();
      this.#logIgnored(token, hosts.ignored, cached?.hosts.ignored ?? []);
      remember(this.#cached, token, { hosts, at: this.#options.clock.now() }, MAX_CACHED);
      return hosts;
    } catch (error) {
      if (!(error instanceof ActionError) || error.code !== 'discovery_unreachable') throw error;
      this.#outage.failed({ reason: error.message });
      if (cached !== undefined && this.#age(cached) < STALE_MS) return cached.hosts;
      throw error;
    }
  }

  async #ask(token: string): Promise<ClusterHosts> {
    const url = new URL(`${this.#options.discoveryUrl.replace(/\/+$/, '')}/${token}`);
    const signal = new AbortController().signal;
    const { status, body } = await this.#options.http
      .call('GET', url, { signal, timeoutMs: TIMEOUT_MS })
      .catch((cause: unknown) => {
        if (cause instanceof HttpFailure && cause.tooLarge) throw invalidDiscoveryResponse(cause.message);
        // The URL contains the token, so the message has only the host.
        const reason = cause instanceof Error ? cause.message.replaceAll(token, '***') : 'no response';
        throw new ActionError(
          'discovery_unreachable',
          `The discovery service at ${url.host} cannot be reached: ${reason}`,
        );
      });
    if (status === 404)
      throw new ActionError('cluster_not_found', 'The discovery service has no cluster with this etcd_token');
    if (status !== 200) {
      throw new ActionError(
        'discovery_unreachable',
        `The discovery service at ${url.host} responded with HTTP status ${status}`,
      );
    }
    const { hosts, ignored } = readMembers(body, token);
    if (hosts.length === 0) {
      throw new ActionError('cluster_empty', 'The etcd_token exists, but no machine has registered with it');
    }
    const endpoints = hosts.map(
      (host) => new URL(`http://${isIPv6(host) ? `[${host}]` : host}:${this.#options.fleetPort}`),
    );
    return { endpoints, ignored, fromDiscovery: true };
  }

  /** Logs ignored members once, not at each look-up. */
  #logIgnored(token: string, ignored: readonly string[], before: readonly string[]): void {
    if (ignored.length === 0 || ignored.join() === before.join()) return;
    const cluster = new Cluster(token).hash;
    this.#options.log.warn('discovery members ignored', { cluster, members: ignored.slice(0, 20) });
  }

  #age({ at }: Cached): number {
    return this.#options.clock.now() - at;
  }
}

/** The hosts in a response; neither its members nor an error contain the token. */
function readMembers(body: unknown, token: string): ReturnType<typeof memberHosts> {
  const hide = (text: string) => text.replaceAll(token, '***');
  try {
    const { hosts, ignored } = memberHosts(body);
    return { hosts, ignored: ignored.map(hide) };
  } catch (error) {
    if (error instanceof ActionError) throw new ActionError(error.code, hide(error.message));
    throw error;
  }
}
