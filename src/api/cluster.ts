import { hash } from 'node:crypto';
import { inspect } from 'node:util';

/** The grammar of an etcd token, or of a cluster's name in `CLUSTERS_FILE`. */
export const CLUSTER_TOKEN = /^[A-Za-z0-9_-]{1,128}$/;

/** The etcd token of a cluster; only for the resolver that looks up its hosts, in this process or in another. */
export let tokenOf: (cluster: Cluster) => string;

/**
 * For transports: call it when a machine of the cluster has responded to anything. The service gives a cluster that does
 * not respond less room, so that its requests do not delay those of others.
 */
export let noteResponse: (cluster: Cluster) => void;

/**
 * A cluster, identified by its etcd token. The token is a secret and therefore private: when a cluster is printed,
 * logged or serialised, it appears as a short hash.
 */
export class Cluster {
  static {
    tokenOf = (cluster) => cluster.#token;
    noteResponse = (cluster) => cluster.#onResponse(cluster);
  }

  readonly #token: string;
  readonly #onResponse: (cluster: Cluster) => void;
  /** The same for the same token, and for no other. */
  readonly key: string;
  /** A short form of `key`, for people: it may be that of another token too. */
  readonly hash: string;
  /** The name that the operator has given it; undefined: none. */
  readonly name: string | undefined;

  /**
   * @param token an etcd token that matches `CLUSTER_TOKEN`
   * @param onResponse called by `noteResponse`
   */
  constructor(token: string, onResponse: (cluster: Cluster) => void = () => {}, name?: string) {
    this.#token = token;
    this.#onResponse = onResponse;
    this.key = keyOf(token);
    this.hash = this.key.slice(0, 10);
    this.name = name;
  }

  toString(): string {
    return this.hash;
  }

  toJSON(): string {
    return this.hash;
  }

  [inspect.custom](): string {
    return `Cluster(${this.hash})`;
  }
}

/** The keys of the tokens that were used last: to calculate one takes as long as much else of a request. */
const keys = new Map<string, string>();
const MAX_KEYS = 1_000;

function keyOf(token: string): string {
  const known = keys.get(token);
  if (known !== undefined) return known;
  const key = hash('sha256', token);
  if (keys.size >= MAX_KEYS) keys.clear();
  keys.set(token, key);
  return key;
}
