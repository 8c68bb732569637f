import { isIPv6 } from 'node:net';
import { ActionError } from '../../api/action-error.js';
import { Cluster, tokenOf } from '../../api/cluster.js';
import { reasonOf } from '../../lib/errors.js';
import { OutageLog } from '../../lib/outage-log.js';
import { SizedCache } from '../../lib/sized-cache.js';
import { HttpFailure } from '../../network/bounded-call.js';
import type { HttpClient, HttpResponse } from '../../network/http-client.js';
import type { Clock } from '../../lib/clock.js';
import type { EtcdResolver } from '../../api/etcd-resolver.js';
import type { Logger } from '../../lib/logger.js';
import { settledWithin } from '../../lib/settled-within.js';
import { untilAborted } from '../../lib/until-aborted.js';
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
  /** The base URLs of the fleet APIs of a cluster that needs no look-up; undefined: it does. */
  endpointsOf: (token: string) => readonly URL[] | undefined;
  clock: Clock;
  log: Logger;
}

/** The hosts of a cluster. */
export interface ClusterHosts {
  /** The base URLs of their fleet APIs. */
  endpoints: readonly URL[];
  /** Members of discovery that are not used, because they have no valid host or exceed a limit; at most 50. */
  ignored: readonly string[];
  /** How many more are not used. */
  moreIgnored: number;
  /** Whether discovery names the hosts. `CLUSTERS_FILE` may name proxies instead of hosts. */
  fromDiscovery: boolean;
}

interface Cached {
  /** `KnownHosts` as JSON: its size is known, and it keeps nothing else of the response in memory. */
  json: string;
  at: number;
  /** When discovery is asked again. */
  refreshAt: number;
}

interface Lookup {
  beganAt: number;
  hosts: Promise<KnownHosts>;
}

/** `ClusterHosts` with the URLs as text. */
interface KnownHosts extends Omit<ClusterHosts, 'endpoints'> {
  endpoints: readonly string[];
}

const FRESH_MS = 60_000;
/** How long cached endpoints are used while discovery is down: members rarely change. */
const STALE_MS = 60 * 60_000;
const TIMEOUT_MS = 10_000;
/** How long a look-up may take before cached endpoints are used. It goes on in the background. */
const PATIENCE_MS = 1_000;
/** How long to wait after a failure before the next look-up while cached endpoints exist, unless `forget` is called. */
const RETRY_MS = 10_000;
const MAX_CACHED = 1_000;
const MAX_CACHED_CHARACTERS = 8 * 1024 * 1024;
/** Whoever has a token can write what discovery responds for it. A response for 256 members has about 40 KB. */
const MAX_RESPONSE_BYTES = 1024 * 1024;

/**
 * Finds a cluster's hosts by its etcd token: in `CLUSTERS_FILE`, else with the discovery service
 * (https://etcd.io/docs/v2.3/discovery_protocol/).
 */
export class Discovery implements EtcdResolver {
  readonly #options: DiscoveryOptions;
  readonly #outage: OutageLog;
  readonly #cached = new SizedCache<Cached>({ entries: MAX_CACHED, size: MAX_CACHED_CHARACTERS });
  readonly #pending = new Map<string, Lookup>();

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
    // New ones, because URLs are mutable and these are shared.
    return { ...hosts, endpoints: hosts.endpoints.map((url) => new URL(url)) };
  }

  async #find(token: string, signal: AbortSignal): Promise<KnownHosts> {
    const named = this.#options.endpointsOf(token);
    if (named !== undefined)
      return { endpoints: named.map(({ href }) => href), ignored: [], moreIgnored: 0, fromDiscovery: false };
    const cached = this.#cached.get(token);
    const usable = cached !== undefined && this.#isUsable(cached) ? cached : undefined;
    if (usable !== undefined && this.#options.clock.now() < usable.refreshAt) return hostsOf(usable);
    const lookup = this.#shared(token, cached);
    return untilAborted(usable === undefined ? lookup.hosts : this.#orCached(lookup, usable), signal);
  }

  /** Call this when none of a cluster's hosts responded: the next call of `endpoints` asks discovery again. */
  forget(cluster: Cluster): void {
    const cached = this.#cached.get(tokenOf(cluster));
    if (cached !== undefined) cached.refreshAt = -Infinity;
  }

  /** Concurrent calls for the same token share one lookup; only its timeout ends it, not the signal of a caller. */
  #shared(token: string, cached: Cached | undefined): Lookup {
    const pending = this.#pending.get(token);
    if (pending !== undefined) return pending;
    const hosts = this.#lookUp(token, cached).finally(() => this.#pending.delete(token));
    const lookup = { beganAt: this.#options.clock.now(), hosts };
    this.#pending.set(token, lookup);
    return lookup;
  }

  /** The result of a lookup, or the cached hosts when it takes longer than `PATIENCE_MS`. */
  async #orCached({ beganAt, hosts }: Lookup, cached: Cached): Promise<KnownHosts> {
    const { clock } = this.#options;
    const patience = beganAt + PATIENCE_MS - clock.now();
    const isInTime = patience > 0 && (await settledWithin(patience, clock, hosts));
    return isInTime ? hosts : hostsOf(cached);
  }

  async #lookUp(token: string, cached: Cached | undefined): Promise<KnownHosts> {
    const { clock } = this.#options;
    try {
      const hosts = await this.#ask(token);
      this.#outage.succeeded();
      this.#logIgnored(token, hosts, cached && hostsOf(cached));
      const json = JSON.stringify(hosts);
      const at = clock.now();
      this.#cached.set(token, { json, at, refreshAt: at + FRESH_MS }, json.length);
      return hosts;
    } catch (error) {
      if (!(error instanceof ActionError)) throw error;
      // A lookup that took longer than the patience of its callers: the next ones must not get the cached hosts.
      if (GONE.has(error.code)) this.#cached.delete(token);
      if (error.code !== 'discovery_unreachable') throw error;
      this.#outage.failed({ reason: error.message });
      if (cached === undefined || !this.#isUsable(cached)) throw error;
      cached.refreshAt = clock.now() + RETRY_MS;
      return hostsOf(cached);
    }
  }

  async #ask(token: string): Promise<KnownHosts> {
    const url = new URL(`${this.#options.discoveryUrl.replace(/\/+$/, '')}/${token}`);
    const signal = new AbortController().signal;
    const response = await this.#options.http
      .call('GET', url, {
        operation: '{token}',
        signal,
        timeoutMs: TIMEOUT_MS,
        maxResponseBytes: MAX_RESPONSE_BYTES,
      })
      .catch((cause: unknown) => {
        if (cause instanceof HttpFailure && cause.tooLarge) throw invalidDiscoveryResponse(cause.message);
        // The URL contains the token, so the message has only the host.
        throw new ActionError(
          'discovery_unreachable',
          `The discovery service at ${url.host} cannot be reached: ${hidden(token, reasonOf(cause))}`,
        );
      });
    const { status } = response;
    if (status === 404)
      throw new ActionError('cluster_not_found', 'The discovery service has no cluster with this etcd_token');
    if (status !== 200) {
      throw new ActionError(
        'discovery_unreachable',
        `The discovery service at ${url.host} responded with HTTP status ${status}`,
      );
    }
    const { hosts, ...others } = readMembers(jsonOf(response), token);
    if (hosts.length === 0) {
      throw new ActionError('cluster_empty', 'The etcd_token exists, but no machine has registered with it');
    }
    const endpoints = hosts.map(
      (host) => new URL(`http://${isIPv6(host) ? `[${host}]` : host}:${this.#options.fleetPort}`).href,
    );
    return { ...others, endpoints, fromDiscovery: true };
  }

  /** Logs ignored members once, not at each look-up. */
  #logIgnored(token: string, { ignored, moreIgnored }: KnownHosts, before: KnownHosts | undefined): void {
    if (ignored.length === 0 && moreIgnored === 0) return;
    if (ignored.join() === before?.ignored.join() && moreIgnored === before.moreIgnored) return;
    const cluster = new Cluster(token).hash;
    const members = ignored.slice(0, 20);
    const more = ignored.length - members.length + moreIgnored;
    this.#options.log.warn('discovery members ignored', { cluster, members, ...(more > 0 && { more }) });
  }

  #isUsable({ at }: Cached): boolean {
    return this.#options.clock.now() - at < STALE_MS;
  }
}

/** The errors by which discovery says that a cluster has no hosts. */
const GONE = new Set(['cluster_not_found', 'cluster_empty']);

function hostsOf({ json }: Cached): KnownHosts {
  return JSON.parse(json) as KnownHosts;
}

/** @throws ActionError `cluster_answer_invalid` */
function jsonOf(response: HttpResponse): unknown {
  try {
    return response.json();
  } catch (error) {
    throw invalidDiscoveryResponse(`it cannot be read: ${reasonOf(error)}`);
  }
}

/** The hosts in a response; neither its members nor an error contain the token. */
function readMembers(body: unknown, token: string): ReturnType<typeof memberHosts> {
  try {
    const { ignored, ...others } = memberHosts(body);
    return { ...others, ignored: ignored.map((text) => hidden(token, text)) };
  } catch (error) {
    if (error instanceof ActionError) throw new ActionError(error.code, hidden(token, error.message));
    throw error;
  }
}

function hidden(token: string, text: string): string {
  return text.replaceAll(token, '***');
}
