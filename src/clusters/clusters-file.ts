import { CLUSTER_TOKEN } from '../api/cluster.js';
import { maskedIfUrl, maskedUrl } from '../lib/masked-url.js';

/** Clusters that need no discovery: the token, or the name that callers use in its place -> the base URLs of their fleet APIs. */
export type NamedClusters = ReadonlyMap<string, readonly URL[]>;

/** What a `CLUSTERS_FILE` says. */
export interface ClustersFile {
  readonly endpoints: NamedClusters;
  /** The etcd tokens of the clusters that callers may name instead of them, by name. The tokens are secrets. */
  readonly tokens: ReadonlyMap<string, string>;
  /** The names of clusters by what identifies them: a token, or the name itself. */
  readonly names: ReadonlyMap<string, string>;
}

/** What discovery services give as tokens: 32 hexadecimal digits, or a UUID. Such a key of the file may be a secret. */
const LOOKS_LIKE_TOKEN = /^[0-9a-f]{32}$|^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const KEYS: ReadonlySet<string> = new Set(['etcd_token', 'endpoints']);

export const NO_CLUSTERS: ClustersFile = { endpoints: new Map(), tokens: new Map(), names: new Map() };

/**
 * Reads the text of a `CLUSTERS_FILE`: a JSON object of `name: [endpoint, ...]`, or
 * `name: {"etcd_token": "...", "endpoints": [...]}`, of which discovery finds the endpoints when they are left out. An endpoint
 * is a URL (`http://10.0.0.1:49153`) or a host; without a port, `fleetPort` is used.
 * @throws Error that names the problem
 */
export function readClustersFile(text: string, fleetPort: number): ClustersFile {
  const content = parsed(text);
  if (!isObject(content))
    throw new Error('it must be a JSON object of cluster names and their lists of endpoints');
  const entries: [string, unknown][] = Object.entries(content);
  const [endpoints, tokens, names] = [
    new Map<string, readonly URL[]>(),
    new Map<string, string>(),
    new Map<string, string>(),
  ];
  for (const [index, [name, value]] of entries.entries()) {
    // The name may be a token, so the error does not contain it.
    if (!CLUSTER_TOKEN.test(name))
      throw new Error('a cluster name has characters other than A-Z a-z 0-9 _ -');
    if (!isObject(value)) {
      endpoints.set(name, endpointsOf(value, fleetPort));
      if (!LOOKS_LIKE_TOKEN.test(name)) names.set(name, name);
      continue;
    }
    const token = tokenIn(name, value, `entry ${index + 1}`);
    if (Object.hasOwn(content, token))
      throw new Error(`the etcd_token of entry ${index + 1} is also a name in the file`);
    if (names.has(token)) throw new Error('two names have the same etcd_token');
    names.set(token, name);
    tokens.set(name, token);
    if (value.endpoints !== undefined) endpoints.set(token, endpointsOf(value.endpoints, fleetPort));
  }
  return { endpoints, tokens, names };
}

/**
 * The etcd token of an entry that has one.
 * @throws Error that contains neither the name nor the token
 */
function tokenIn(name: string, entry: Readonly<Record<string, unknown>>, where: string): string {
  if (LOOKS_LIKE_TOKEN.test(name))
    throw new Error('a cluster name looks like an etcd token: a name is shown, a token is a secret');
  if (!Object.keys(entry).every((key) => KEYS.has(key)))
    throw new Error(`${where} may have only etcd_token and endpoints`);
  const { etcd_token: token } = entry;
  if (typeof token !== 'string' || !CLUSTER_TOKEN.test(token))
    throw new Error(`${where} needs an etcd_token of 1 to 128 of the characters A-Z a-z 0-9 _ -`);
  return token;
}

function endpointsOf(value: unknown, fleetPort: number): URL[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) throw new Error('a cluster has no endpoints');
  return list.map((each) => endpointOf(each, fleetPort));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's error is not used: it quotes the text, which may contain tokens.
    throw new Error('it is not JSON');
  }
}

function endpointOf(value: unknown, fleetPort: number): URL {
  const text = typeof value === 'string' ? value : '';
  const full = text.includes('://') ? text : `http://${text}`;
  // Not only before a `/`: with a `/` in a password, its rest is read as the path.
  if (text.includes('@'))
    throw new Error(
      `the endpoint ${maskedUrl(full)} has a user name or password, which fleet's API does not support`,
    );
  if (text === '' || !URL.canParse(full))
    throw new Error(`${shownEndpoint(value)} is not an endpoint such as http://10.0.0.1:49153`);
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new Error(`${maskedIfUrl(text)} is neither http nor https`);
  if (url.search !== '' || url.hash !== '')
    throw new Error(`${maskedIfUrl(text)} must be a base URL, without a query or a fragment`);
  // `URL` drops the default port of the scheme, but an explicit port must be kept.
  if (url.port === '' && !/^\w+:\/\/[^/]*:\d+(\/|$)/.test(full)) url.port = String(fleetPort);
  return url;
}

function shownEndpoint(value: unknown): string {
  if (typeof value === 'object' && value !== null) return 'a list or an object';
  return JSON.stringify(typeof value === 'string' ? maskedIfUrl(value) : value);
}
