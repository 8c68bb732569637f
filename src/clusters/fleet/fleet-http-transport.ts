import { ActionError } from '../../api/action-error.js';
import { type Cluster, noteResponse } from '../../api/cluster.js';
import { isUnitName } from '../../api/grammar.js';
import { HttpFailure } from '../../network/bounded-call.js';
import type { HttpResponse, HttpClient } from '../../network/http-client.js';
import { DESIRED_STATES, type DesiredState, type FleetTransport } from '../../api/fleet-transport.js';
import type { EtcdResolver } from '../../api/etcd-resolver.js';
import type { Machine, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';
import {
  type Collection,
  type Page,
  readMachine,
  readPage,
  readUnit,
  readUnitState,
  invalidFleetResponse,
} from './fleet-responses.js';
import { readAllPages } from './pages.js';

/** fleet answers 503 after up to 18 s without etcd; a page of a large cluster may take several seconds. */
const TIMEOUT_MS = 20_000;
/** Cluster members are not trusted, so response sizes are limited. A page of 100 units has about 100 KB. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
const MAX_COLLECTION_SIZE = 32 * 1024 * 1024;
const MAX_REMEMBERED = 1_000;
/** The abort reason for requests for pages after the last one. */
const NO_MORE_PAGES = new Error('all pages have been read');

interface FleetCall {
  method: 'GET' | 'PUT' | 'DELETE';
  /** Below `/fleet/v1/`. */
  path: string;
  query?: Record<string, string | undefined>;
  /** JSON. */
  body?: string;
  signal: AbortSignal;
}

/** fleet's HTTP API v1 (https://github.com/coreos/fleet/blob/master/Documentation/api-v1.md). */
export class FleetHttpTransport implements FleetTransport {
  readonly #http: HttpClient;
  readonly #resolver: EtcdResolver & { forget(cluster: Cluster): void };
  /** The host to try first for each cluster: the last one that responded, or the one after the last that failed. */
  readonly #first = new Map<string, string>();

  constructor(http: HttpClient, resolver: EtcdResolver & { forget(cluster: Cluster): void }) {
    this.#http = http;
    this.#resolver = resolver;
  }

  async machines(cluster: Cluster, { signal }: { signal: AbortSignal }): Promise<Machine[]> {
    const machines = await this.#all(cluster, { path: 'machines', of: 'machines', signal }, readMachine);
    return withoutDuplicates(machines, ({ id }) => id);
  }

  async incompleteness(cluster: Cluster, options: { signal: AbortSignal }): Promise<string | undefined> {
    const [hosts, machines] = await Promise.all([
      this.#resolver.endpoints(cluster, options),
      this.machines(cluster, options),
    ]);
    if (machines.length >= hosts.length) return undefined;
    return `Discovery names ${hosts.length} hosts of this cluster, but fleet lists ${machines.length} machines: units of the others may be missing`;
  }

  async units(cluster: Cluster, { signal }: { signal: AbortSignal }): Promise<Unit[]> {
    const units = await this.#all(cluster, { path: 'units', of: 'units', signal }, readUnit);
    return withoutDuplicates(units, ({ name }) => name);
  }

  async unit(cluster: Cluster, name: string, { signal }: { signal: AbortSignal }): Promise<Unit | undefined> {
    const { status, body } = await this.#call(cluster, { method: 'GET', path: unitPath(name), signal });
    if (status === 404) return undefined;
    if (status !== 200) throw refused(status, body);
    return readUnit(body);
  }

  async unitStates(
    cluster: Cluster,
    { unitName, machineID, signal }: { unitName?: string; machineID?: string; signal: AbortSignal },
  ): Promise<UnitState[]> {
    const query = { unitName, machineID };
    const states = await this.#all(cluster, { path: 'state', of: 'states', query, signal }, readUnitState);
    return withoutDuplicates(states, (state) => JSON.stringify([state.name, state.machineID]));
  }

  async setDesiredState(
    cluster: Cluster,
    name: string,
    state: DesiredState,
    options: { signal: AbortSignal },
  ): Promise<void> {
    await this.#put(cluster, { name, desiredState: checkedState(state) }, options.signal);
  }

  async putUnit(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options: UnitOption[] },
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    const { name, desiredState, options } = unit;
    await this.#put(cluster, { name, desiredState: checkedState(desiredState), options }, signal);
  }

  async destroyUnit(cluster: Cluster, name: string, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const { status, body } = await this.#call(cluster, { method: 'DELETE', path: unitPath(name), signal });
    if (status === 404) return false;
    if (status !== 204) throw refused(status, body);
    return true;
  }

  async #put(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options?: UnitOption[] },
    signal: AbortSignal,
  ): Promise<void> {
    const { status, body } = await this.#call(cluster, {
      method: 'PUT',
      path: unitPath(unit.name),
      body: JSON.stringify(unit),
      signal,
    });
    if (status === 201 || status === 204) return;
    // Without options, fleet responds with 409 when the unit does not exist.
    const missing = status === 404 || (status === 409 && unit.options === undefined);
    throw missing
      ? new ActionError('unit_not_found', `The cluster has no unit ${unit.name}`)
      : refused(status, body);
  }

  /** Reads and checks all rows of a collection. */
  async #all<Row>(
    cluster: Cluster,
    request: {
      path: string;
      of: Collection;
      query?: Record<string, string | undefined>;
      signal: AbortSignal;
    },
    readRow: (row: unknown) => Row,
  ): Promise<Row[]> {
    const { path, of, query, signal } = request;
    // Ends the requests for the other pages when one page fails, or after the last page.
    const pages = new AbortController();
    const either = AbortSignal.any([signal, pages.signal]);
    let size = 0;
    const read = async (nextPageToken: string | undefined): Promise<Page<Row>> => {
      const call: FleetCall = { method: 'GET', path, query: { ...query, nextPageToken }, signal: either };
      const { status, body, text } = await this.#call(cluster, call);
      if (status !== 200) throw refused(status, body);
      size += text.length;
      if (size > MAX_COLLECTION_SIZE)
        throw invalidFleetResponse(`its ${of} have more than ${MAX_COLLECTION_SIZE} characters of JSON`);
      const page = readPage(body, of);
      return { ...page, rows: page.rows.map(readRow) };
    };
    try {
      return await readAllPages(read);
    } finally {
      pages.abort(NO_MORE_PAGES);
    }
  }

  /**
   * Calls the cluster's hosts in turn until one responds. A change is sent to another host only when it is certain that
   * the previous host did not receive it.
   */
  async #call(cluster: Cluster, call: FleetCall): Promise<HttpResponse> {
    const endpoints = this.#inOrder(cluster, await this.#resolver.endpoints(cluster, call));
    const failures: { host: string; reason: string }[] = [];
    let forbidden: ActionError | undefined;
    let responded = false;
    for (const [index, endpoint] of endpoints.entries()) {
      call.signal.throwIfAborted();
      try {
        const response = await this.#http.call(call.method, urlOf(endpoint, call), {
          body: call.body,
          signal: call.signal,
          timeoutMs: TIMEOUT_MS,
          maxResponseBytes: MAX_PAGE_BYTES,
        });
        noteResponse(cluster);
        // fleet reports its internal failures with 500 and 503; a proxy in front of it uses other 5xx statuses.
        if (response.status < 500) {
          this.#startWith(cluster, endpoint);
          return response;
        }
        responded = true;
        failures.push({
          host: endpoint.host,
          reason: `HTTP ${response.status} ${messageOf(response.body)}`.trim(),
        });
        if (call.method !== 'GET') throw outcomeUnknown(failures);
      } catch (error) {
        if (error === NO_MORE_PAGES) throw error;
        // Also after an abort: the next attempt must not wait for the same unresponsive host.
        this.#startWith(cluster, endpoints[index + 1] ?? endpoints[0]);
        if (error instanceof HttpFailure) {
          failures.push({ host: endpoint.host, reason: error.message });
          if (call.method !== 'GET' && !error.notSent) throw outcomeUnknown(failures);
          if (error.tooLarge) throw invalidFleetResponse(error.message);
        } else if (error instanceof ActionError && error.code === 'forbidden') {
          forbidden = error;
          failures.push({ host: endpoint.host, reason: 'forbidden' });
        } else if (call.method !== 'GET' && call.signal.aborted) {
          throw outcomeUnknown([...failures, { host: endpoint.host, reason: 'the call was aborted' }]);
        } else {
          throw error;
        }
      }
    }
    this.#resolver.forget(cluster);
    if (forbidden !== undefined && failures.every(({ reason }) => reason === 'forbidden')) throw forbidden;
    throw noUsableResponse(failures, responded);
  }

  #inOrder(cluster: Cluster, endpoints: URL[]): URL[] {
    const first = this.#first.get(cluster.hash);
    const start = Math.max(
      0,
      endpoints.findIndex(({ href }) => href === first),
    );
    return [...endpoints.slice(start), ...endpoints.slice(0, start)];
  }

  #startWith(cluster: Cluster, endpoint: URL | undefined): void {
    if (endpoint === undefined || this.#first.get(cluster.hash) === endpoint.href) return;
    this.#first.set(cluster.hash, endpoint.href);
    const [oldest] = this.#first.keys();
    if (this.#first.size > MAX_REMEMBERED && oldest !== undefined) this.#first.delete(oldest);
  }
}

function urlOf(endpoint: URL, { path, query = {} }: FleetCall): URL {
  const url = new URL(`${endpoint.href.replace(/\/+$/, '')}/fleet/v1/${path}`);
  for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
  return url;
}

function unitPath(name: string): string {
  // An invalid name could address another path of the API.
  if (!isUnitName(name))
    throw new ActionError('invalid_parameters', `'${name.slice(0, 300)}' is not a valid unit name`);
  return `units/${encodeURIComponent(name)}`;
}

function checkedState(state: DesiredState): DesiredState {
  // fleet accepts any other text with 204, but then can neither read nor remove the unit.
  if (DESIRED_STATES.includes(state)) return state;
  throw new TypeError(`a desired state must be one of ${DESIRED_STATES.join(', ')}`);
}

function withoutDuplicates<T>(rows: T[], keyOf: (row: T) => string): T[] {
  // Pages are not a snapshot: when a row is inserted meanwhile, the next page may repeat the last row of the previous
  // one.
  return [...new Map(rows.map((row) => [keyOf(row), row])).values()];
}

function messageOf(body: unknown): string {
  if (typeof body !== 'object' || body === null || !('error' in body)) return '';
  const { error } = body;
  const message = typeof error === 'object' && error !== null && 'message' in error ? error.message : '';
  return typeof message === 'string' ? message.slice(0, 200) : '';
}

function refused(status: number, body: unknown): ActionError {
  const message = messageOf(body);
  return new ActionError(
    'cluster_refused',
    `The cluster's fleet API refused the request with HTTP status ${status}${message && `: ${message}`}`,
    {
      details: { status },
    },
  );
}

function outcomeUnknown(failures: { host: string; reason: string }[]): ActionError {
  const last = failures.at(-1);
  return new ActionError(
    'outcome_unknown',
    `The fleet API at ${last?.host} failed during the change: ${last?.reason}`,
    {
      details: { hosts: failures },
    },
  );
}

function noUsableResponse(failures: { host: string; reason: string }[], responded: boolean): ActionError {
  const shown = failures.slice(0, 5).map(({ host, reason }) => `${host}: ${reason}`);
  const more = failures.length > shown.length ? `, and ${failures.length - shown.length} more` : '';
  const [code, what] = responded
    ? ['cluster_unhealthy', "The cluster's fleet API reports an internal failure"]
    : ['cluster_unreachable', 'No fleet API of the cluster can be reached'];
  return new ActionError(code, `${what} (${shown.join(', ')}${more})`, {
    details: { hosts: failures.slice(0, 20) },
  });
}
