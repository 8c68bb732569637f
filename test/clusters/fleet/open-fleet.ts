import type { RequestListener } from 'node:http';
import type { ExecutionContext } from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { Discovery } from '../../../src/clusters/fleet/discovery.js';
import { FleetHttpTransport } from '../../../src/clusters/fleet/fleet-http-transport.js';
import { Windows } from '../../../src/clusters/fleet/page-token.js';
import { HostPolicy } from '../../../src/network/connection-policy.js';
import { HttpClient } from '../../../src/network/http-client.js';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../../src/sandbox/sandbox.js';
import { respondWith } from '../../network/http-server.js';
import { HUNG_MS } from '../../support/eventually.js';
import { logLines } from '../../support/log-lines.js';
import { ManualClock } from '../../support/manual-clock.js';

export const THREE_HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

/** A server that answers reads as fleet does in an empty cluster, and changes as given. */
export function readable(change: RequestListener): RequestListener {
  return (request, response) => {
    if (request.method === 'GET') respondWith(200, {})(request, response);
    else change(request, response);
  };
}

/** Options of a call that is not aborted. */
export const notAborted = () => ({ signal: new AbortController().signal });

/** Matches requests for the pages of 100 rows that begin at these rows, other than the first page. */
export function pagesAt(...offsets: readonly number[]): RegExp {
  const windows = new Windows(100);
  // Without the padding, which is sent percent-encoded.
  const tokens = offsets.map((offset) => windows.tokenAt(offset).slice(0, 6));
  return new RegExp(`nextPageToken=(${tokens.join('|')})`);
}

interface ResolverParts {
  resolver: Discovery;
  /** How long each call of discovery may take, in milliseconds. */
  discoveryLimits: readonly number[];
  clock: ManualClock;
  log: ReturnType<typeof logLines>;
}

export interface OpenFleet extends ResolverParts {
  sandbox: Sandbox;
  /** The sandbox's first cluster. */
  cluster: Cluster;
  fleet: FleetHttpTransport;
}

export interface OpenFleetOptions extends SandboxOptions {
  /** What `ALLOWED_HOSTS` lists; left out: all of loopback. */
  allowedHosts?: readonly string[] | 'unset';
  /** Hosts of the fleet API that hang in this test. */
  hanging?: readonly string[];
  /** Whether the test lets discovery hang. */
  discoveryHangs?: boolean;
}

/** A fleet transport on a sandbox, with a manual clock; closed when the test ends. */
export async function openFleet(t: ExecutionContext, options: OpenFleetOptions = {}): Promise<OpenFleet> {
  const { allowedHosts = ['127.0.0.0/8'], hanging = [], discoveryHangs, ...contents } = options;
  const clock = new ManualClock();
  const sandbox = await startSandbox({ clock, ...contents });
  t.teardown(() => sandbox.stop());
  const { discoveryUrl, fleetPort, token } = sandbox;
  const parts = openResolver(t, { discoveryUrl, fleetPort, clock, hangs: discoveryHangs });
  const policy = new HostPolicy(allowedHosts === 'unset' ? undefined : allowedHosts);
  const http = openHttp(t, policy, ({ hostname }) => hanging.includes(hostname));
  const fleet = new FleetHttpTransport({ ...parts, http, policy, log: parts.log.log });
  return { ...parts, sandbox, cluster: new Cluster(token), fleet };
}

export interface NamedFleet extends Pick<OpenFleet, 'fleet' | 'cluster' | 'clock'> {
  /** How long each call of a host may take, in milliseconds. */
  timeLimits: readonly number[];
}

/** A fleet transport for a cluster that `CLUSTERS_FILE` names with these endpoints. */
export function openNamedFleet(t: ExecutionContext, endpoints: readonly URL[]): NamedFleet {
  const parts = openResolver(t, { namedClusters: new Map([['named', endpoints]]) });
  const policy = new HostPolicy(['127.0.0.0/8']);
  const http = openHttp(t, policy);
  const fleet = new FleetHttpTransport({ ...parts, http, policy, log: parts.log.log });
  return { fleet, cluster: new Cluster('named'), clock: parts.clock, timeLimits: http.timeLimits };
}

interface OpenResolverOptions {
  discoveryUrl?: string;
  fleetPort?: number;
  namedClusters?: ReadonlyMap<string, readonly URL[]>;
  clock?: ManualClock;
  /** Whether the test lets discovery hang. */
  hangs?: boolean;
}

/** A resolver that is closed when the test ends. */
export function openResolver(t: ExecutionContext, options: OpenResolverOptions): ResolverParts {
  const { discoveryUrl = 'http://127.0.0.1:1', fleetPort = 49_153, namedClusters = new Map() } = options;
  const { clock = new ManualClock(), hangs = false } = options;
  const http = openHttp(t, undefined, () => hangs);
  const log = logLines();
  const resolver = new Discovery({
    http,
    discoveryUrl,
    fleetPort,
    endpointsOf: (token) => namedClusters.get(token),
    clock,
    log: log.log,
  });
  return { resolver, clock, log, discoveryLimits: http.timeLimits };
}

function openHttp(
  t: ExecutionContext,
  policy: HostPolicy | undefined,
  hangs: (url: URL) => boolean = () => false,
): FittedHttpClient {
  const http = new FittedHttpClient(policy, hangs);
  t.teardown(() => http.close());
  return http;
}

/** Gives up after half a second on servers that are known to hang, and gives others the time of a busy machine. */
class FittedHttpClient extends HttpClient {
  readonly #hangs: (url: URL) => boolean;
  /** Those that the callers give. */
  readonly timeLimits: number[] = [];

  constructor(policy: HostPolicy | undefined, hangs: (url: URL) => boolean) {
    super({ policy });
    this.#hangs = hangs;
  }

  override call(...[method, url, options]: Parameters<HttpClient['call']>): ReturnType<HttpClient['call']> {
    this.timeLimits.push(options.timeoutMs);
    return super.call(method, url, { ...options, timeoutMs: this.#hangs(url) ? 500 : HUNG_MS });
  }
}
