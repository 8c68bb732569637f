import { ActionError } from '../../api/action-error.js';
import type { Cancellable } from '../../api/cancellable.js';
import type { Cluster } from '../../api/cluster.js';
import { isUnitName } from '../../api/grammar.js';
import type { Clock } from '../../lib/clock.js';
import { linkSignals } from '../../lib/linked-signal.js';
import type { Logger } from '../../lib/logger.js';
import type { ConnectionPolicy } from '../../network/connection-policy.js';
import type { HttpClient, HttpResponse } from '../../network/http-client.js';
import {
  type ClusterHostsReport,
  DESIRED_STATES,
  type DesiredState,
  type FleetTransport,
  type ListOptions,
} from '../../api/fleet-transport.js';
import type { Machine, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';
import { ClusterHttp, type FleetChange, type FleetRead, NOT_NEEDED } from './cluster-http.js';
import { Completeness } from './completeness.js';
import type { Discovery } from './discovery.js';
import {
  type Collection,
  errorMessageOf,
  type Page,
  readMachine,
  readPage,
  readUnit,
  readUnitState,
  invalidFleetResponse,
} from './fleet-responses.js';
import { RecentMachines } from './recent-machines.js';
import { readWholeList } from './whole-list.js';

const MAX_COLLECTION_SIZE = 32 * 1024 * 1024;
/** A read of one unit takes a millisecond, and up to 700 ms in a cluster under load. */
const HEDGE_MS = 500;
/** A page of a cluster of 5,000 units takes up to 800 ms: the server reads the whole collection for it. */
const PAGE_HEDGE_MS = 1_000;
/** Pages that are read at the same time are slower than the first one. */
const PAGE_SLOWDOWN = 4;
/** How long each host has to answer, when every host is asked. */
const PROBE_MS = 3_000;

interface FleetHttpTransportOptions {
  http: HttpClient;
  resolver: Pick<Discovery, 'hosts' | 'forget'>;
  policy: ConnectionPolicy;
  clock: Clock;
  log: Logger;
}

/** How to read a collection. */
interface ListRequest<Row> {
  path: string;
  of: Collection;
  query?: Record<string, string | undefined>;
  readRow: (row: unknown) => Row;
  /** The text by which fleet sorts the rows. */
  keyOf: (row: Row) => string;
}

/** fleet's HTTP API v1 (https://github.com/coreos/fleet/blob/master/Documentation/api-v1.md). */
export class FleetHttpTransport implements FleetTransport {
  readonly #http: ClusterHttp;
  readonly #resolver: Pick<Discovery, 'hosts' | 'forget'>;
  readonly #completeness: Completeness;
  readonly #recent: RecentMachines;
  readonly #clock: Clock;

  constructor({ http, resolver, policy, clock, log }: FleetHttpTransportOptions) {
    this.#http = new ClusterHttp(http, clock);
    this.#resolver = resolver;
    this.#completeness = new Completeness({ policy, clock, log });
    this.#recent = new RecentMachines(clock);
    this.#clock = clock;
  }

  async machines(cluster: Cluster, options: ListOptions): Promise<Machine[]> {
    const machines = await this.#all(cluster, options, {
      path: 'machines',
      of: 'machines',
      readRow: readMachine,
      keyOf: ({ id }) => id,
    });
    this.#recent.add(cluster, machines);
    return machines;
  }

  async incompleteness(cluster: Cluster, options: Cancellable): Promise<string | undefined> {
    try {
      const known = await this.#incompleteness(cluster, options);
      return known?.sentence;
    } catch (error) {
      options.signal.throwIfAborted();
      // What cannot be read is not known; a caller that needs it fails by its own read.
      if (error instanceof ActionError) return undefined;
      throw error;
    }
  }

  async hosts(cluster: Cluster, options: Cancellable): Promise<ClusterHostsReport> {
    const { endpoints, ignored } = await this.#resolver.hosts(cluster, options);
    const probe = { path: 'machines', timeoutMs: PROBE_MS, ...options };
    const hosts = await Promise.all(
      endpoints.map(async (endpoint) => ({
        host: endpoint.host,
        failure: await this.#http.problemOf(endpoint, probe),
      })),
    );
    const answers = hosts.some(({ failure }) => failure === undefined);
    const known = answers ? await this.#incompleteness(cluster, options) : undefined;
    return { hosts, unlisted: [...(known?.unlisted ?? [])], ignored: [...ignored] };
  }

  async units(cluster: Cluster, options: ListOptions): Promise<Unit[]> {
    const units = await this.#all(cluster, options, {
      path: 'units',
      of: 'units',
      readRow: readUnit,
      keyOf: ({ name }) => name,
    });
    return withValidNames(units, options);
  }

  async unit(cluster: Cluster, name: string, { signal }: { signal: AbortSignal }): Promise<Unit | undefined> {
    const { status, body } = await this.#read(cluster, {
      path: unitPath(name),
      hedgeMs: HEDGE_MS,
      signal,
    });
    if (status === 404) return undefined;
    if (status !== 200) throw refused(status, body);
    return readUnit(body);
  }

  async unitStates(
    cluster: Cluster,
    { unitName, machineID, ...options }: ListOptions & { unitName?: string; machineID?: string },
  ): Promise<UnitState[]> {
    const states = await this.#all(cluster, options, {
      path: 'state',
      of: 'states',
      query: { unitName, machineID },
      readRow: readUnitState,
      // As fleet compares the two fields; no name contains the separator.
      keyOf: (state) => `${state.name}\0${state.machineID ?? ''}`,
    });
    return withValidNames(states, options);
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
    const { status, body } = await this.#change(cluster, { method: 'DELETE', path: unitPath(name), signal });
    if (status === 404) return false;
    if (status !== 204) throw refused(status, body);
    return true;
  }

  async #put(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options?: UnitOption[] },
    signal: AbortSignal,
  ): Promise<void> {
    const { status, body } = await this.#change(cluster, {
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

  async #incompleteness(cluster: Cluster, options: Cancellable) {
    const [hosts, machines] = await Promise.all([
      this.#resolver.hosts(cluster, options),
      this.#recent.of(cluster) ?? this.machines(cluster, options),
    ]);
    return this.#completeness.check(cluster, hosts, machines);
  }

  /** Reads and checks all rows of a collection. */
  async #all<Row>(
    cluster: Cluster,
    { signal, warn }: ListOptions,
    { path, of, query, readRow, keyOf }: ListRequest<Row>,
  ): Promise<Row[]> {
    // Ends the requests for the other pages when one page fails, or after the last page.
    const pages = linkSignals(signal);
    let size = 0;
    let hedgeMs = PAGE_HEDGE_MS;
    const read = async (nextPageToken: string | undefined): Promise<Page<Row>> => {
      const begun = this.#clock.now();
      const { status, body, text } = await this.#read(cluster, {
        path,
        query: { ...query, nextPageToken },
        hedgeMs,
        signal: pages.signal,
      });
      if (status !== 200) throw refused(status, body);
      if (nextPageToken === undefined)
        hedgeMs = Math.max(PAGE_HEDGE_MS, PAGE_SLOWDOWN * (this.#clock.now() - begun));
      size += text.length;
      if (size > MAX_COLLECTION_SIZE)
        throw invalidFleetResponse(`its ${of} have more than ${MAX_COLLECTION_SIZE} characters of JSON`);
      const page = readPage(body, of);
      return { ...page, rows: page.rows.map(readRow) };
    };
    try {
      const { rows, complete } = await readWholeList({ read, keyOf });
      if (!complete)
        warn?.(`The list of ${of} changed so fast while it was read that it may lack some of them`);
      return rows;
    } finally {
      pages.abort(NOT_NEEDED);
      pages.unlink();
    }
  }

  async #read(cluster: Cluster, call: FleetRead): Promise<HttpResponse> {
    const { endpoints } = await this.#resolver.hosts(cluster, call);
    return this.#forgetting(cluster, this.#http.read(cluster, endpoints, call));
  }

  async #change(cluster: Cluster, call: FleetChange): Promise<HttpResponse> {
    const { endpoints } = await this.#resolver.hosts(cluster, call);
    return this.#forgetting(cluster, this.#http.change(cluster, endpoints, call));
  }

  /** After a failure of all hosts the cluster may have moved, so discovery is asked again. */
  async #forgetting(cluster: Cluster, response: Promise<HttpResponse>): Promise<HttpResponse> {
    try {
      return await response;
    } catch (error) {
      if (error instanceof ActionError && ALL_FAILED.has(error.code)) this.#resolver.forget(cluster);
      throw error;
    }
  }
}

const ALL_FAILED = new Set(['cluster_unreachable', 'cluster_unhealthy', 'forbidden']);

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

/** fleet accepts only valid names, but others may have been written into its etcd: they do not spoil the list. */
function withValidNames<Row extends { name: string }>(rows: readonly Row[], { warn }: ListOptions): Row[] {
  const valid = rows.filter(({ name }) => isUnitName(name));
  const invalid = [...new Set(rows.map(({ name }) => name).filter((name) => !isUnitName(name)))];
  if (invalid.length > 0) {
    const shown = invalid.slice(0, 3).map((name) => JSON.stringify(name.slice(0, 60)));
    const more = invalid.length > 3 ? ', ...' : '';
    warn?.(
      `The cluster lists ${invalid.length} invalid unit ${invalid.length === 1 ? 'name' : 'names'}, which were left out: ${shown.join(', ')}${more}`,
    );
  }
  return valid;
}

function refused(status: number, body: unknown): ActionError {
  const message = errorMessageOf(body);
  return new ActionError(
    'cluster_refused',
    `The cluster's fleet API refused the request with HTTP status ${status}${message && `: ${message}`}`,
    {
      details: { status },
    },
  );
}
