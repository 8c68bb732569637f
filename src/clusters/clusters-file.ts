import { CLUSTER_TOKEN } from '../api/cluster.js';
import { maskedIfUrl, maskedUrl } from '../lib/masked-url.js';

/** Clusters that need no discovery: name or token -> the base URLs of their fleet APIs. */
export type NamedClusters = ReadonlyMap<string, readonly URL[]>;

/**
 * Reads the text of a `CLUSTERS_FILE`: a JSON object of `name: [endpoint, ...]`. An endpoint is a URL
 * (`http://10.0.0.1:49153`) or a host; without a port, `fleetPort` is used.
 * @throws Error that names the problem
 */
export function readClustersFile(text: string, fleetPort: number): NamedClusters {
  const content = parsed(text);
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new Error('it must be a JSON object of cluster names and their lists of endpoints');
  }
  return new Map(
    Object.entries(content).map(([name, endpoints]: [string, unknown]) => {
      // The name may be a token, so the error does not contain it.
      if (!CLUSTER_TOKEN.test(name))
        throw new Error('a cluster name has characters other than A-Z a-z 0-9 _ -');
      const list: unknown[] = Array.isArray(endpoints) ? endpoints : [endpoints];
      if (list.length === 0) throw new Error('a cluster has no endpoints');
      return [name, list.map((each) => endpointOf(each, fleetPort))];
    }),
  );
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
