import { ActionError } from '../../api/action-error.js';
import type { Cancellable } from '../../api/cancellable.js';
import type { Cluster } from '../../api/cluster.js';
import { isUnitName } from '../../api/grammar.js';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import { printable } from '../../lib/printable.js';
import type { ConnectionPolicy } from '../../network/connection-policy.js';
import type { HttpClient, HttpResponse } from '../../network/http-client.js';
import {
  type ChangeOptions,
  type ClusterHostsReport,
  DESIRED_STATES,
  type DesiredState,
  type FleetTransport,
  type ListOptions,
  type UnitReadOptions,
} from '../../api/fleet-transport.js';
import type { Machine, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';
import { ClusterHttp, type FleetAnswer, type FleetChange, type FleetRead } from './cluster-http.js';
import { Completeness } from './completeness.js';
import type { Discovery } from './discovery.js';
import { jsonOf, type Refusal, UnusableResponse } from './fleet-answer.js';
import { readMachine, readPage, readUnit, readUnitState } from './fleet-responses.js';
import { invalidList, ListReader, MAX_FLAWS, type ListRequest } from './list-reader.js';
import { RecentMachines } from './recent-machines.js';

/** A read of one unit takes a millisecond, and up to 700 ms in a cluster under load. */
const HEDGE_MS = 500;
/** How long each host has to answer at most, when every host is asked. */
const PROBE_MS = 3_000;

interface FleetHttpTransportOptions {
  http: HttpClient;
  resolver: Pick<Discovery, 'hosts' | 'forget'>;
  policy: ConnectionPolicy;
  clock: Clock;
  log: Logger;
}

const MACHINES: ListRequest<Machine> = {
  path: 'machines',
  of: 'machines',
  readRow: readMachine,
  keyOf: ({ id }) => id,
};
/** Shows whether a host answers. */
const PROBE = { path: MACHINES.path, read: (response: HttpResponse) => readPage(jsonOf(response), MACHINES) };

/** fleet's HTTP API v1 (https://github.com/coreos/fleet/blob/master/Documentation/api-v1.md). */
export class FleetHttpTransport implements FleetTransport {
  readonly #http: ClusterHttp;
  readonly #resolver: Pick<Discovery, 'hosts' | 'forget'>;
  readonly #completeness: Completeness;
  readonly #recent: RecentMachines;
  readonly #lists: ListReader;

  constructor({ http, resolver, policy, clock, log }: FleetHttpTransportOptions) {
    this.#http = new ClusterHttp(http, clock);
    this.#lists = new ListReader(async (cluster, call) => this.#read(cluster, call), clock);
    this.#resolver = resolver;
    this.#completeness = new Completeness({ policy, clock, log });
    this.#recent = new RecentMachines(clock);
  }

  async machines(cluster: Cluster, options: ListOptions): Promise<Machine[]> {
    const machines = await this.#all(cluster, options, MACHINES);
    this.#recent.add(cluster, machines);
    return machines;
  }

  async incompleteness(cluster: Cluster, options: Cancellable): Promise<string | undefined> {
    return (await this.#incompleteness(cluster, options))?.sentence;
  }

  async hosts(
    cluster: Cluster,
    { timeoutMs = PROBE_MS, ...options }: Cancellable & { timeoutMs?: number },
  ): Promise<ClusterHostsReport> {
    const { endpoints, ignored, moreIgnored } = await this.#resolver.hosts(cluster, options);
    const probe = { ...PROBE, timeoutMs: Math.min(PROBE_MS, timeoutMs), ...options };
    const hosts = await Promise.all(
      endpoints.map(async (endpoint) => ({
        host: endpoint.host,
        failure: await this.#http.problemOf(endpoint, probe),
      })),
    );
    const answers = hosts.some(({ failure }) => failure === undefined);
    const known = answers ? await this.#incompleteness(cluster, options) : undefined;
    return { hosts, unlisted: [...(known?.unlisted ?? [])], ignored: [...ignored], moreIgnored };
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

  async unit(
    cluster: Cluster,
    name: string,
    { signal, accepts }: UnitReadOptions,
  ): Promise<Unit | undefined> {
    const answer = await this.#read<Unit>(cluster, {
      path: unitPath(name),
      read: (response) => ({ value: unitOfName(name, jsonOf(response)), flaws: [] }),
      refusedWith: 404,
      hedgeMs: HEDGE_MS,
      signal,
      accepts: accepts && ((found, host) => accepts(foundIn(found), host)),
    });
    return foundIn(answer);
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
    options: ChangeOptions,
  ): Promise<void> {
    await this.#put(cluster, { name, desiredState: checkedState(state) }, options);
  }

  async putUnit(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options: UnitOption[] },
    { signal }: Cancellable,
  ): Promise<void> {
    const { name, desiredState, options } = unit;
    await this.#put(cluster, { name, desiredState: checkedState(desiredState), options }, { signal });
  }

  async destroyUnit(cluster: Cluster, name: string, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const refusal = await this.#change(cluster, { method: 'DELETE', path: unitPath(name), signal });
    if (refusal?.status === 404) return false;
    if (refusal !== undefined) throw refused(refusal);
    return true;
  }

  async #put(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options?: UnitOption[] },
    { signal, confirmedBy }: ChangeOptions,
  ): Promise<void> {
    const refusal = await this.#change(cluster, {
      method: 'PUT',
      path: unitPath(unit.name),
      body: JSON.stringify(unit),
      signal,
      onDone: confirmedBy,
    });
    if (refusal === undefined) return;
    // Without options, fleet responds with 409 when the unit does not exist.
    const missing = refusal.status === 404 || (refusal.status === 409 && unit.options === undefined);
    throw missing
      ? new ActionError('unit_not_found', `The cluster has no unit ${unit.name}`)
      : refused(refusal);
  }

  async #incompleteness(cluster: Cluster, options: Cancellable) {
    try {
      const [hosts, machines] = await Promise.all([
        this.#resolver.hosts(cluster, options),
        this.#recent.of(cluster) ?? this.machines(cluster, options),
      ]);
      return await this.#completeness.check(cluster, hosts, machines);
    } catch (error) {
      options.signal.throwIfAborted();
      // What cannot be read is not known; a caller that needs it fails by its own read.
      if (error instanceof ActionError) return undefined;
      throw error;
    }
  }

  /** Reads and checks all rows of a collection. */
  async #all<Row>(
    cluster: Cluster,
    { signal, warn, from }: ListOptions,
    request: ListRequest<Row>,
  ): Promise<Row[]> {
    const { rows, complete, flaws } = await this.#lists.list(cluster, signal, { ...request, from });
    if (!complete)
      warn?.(`The list of ${request.of} changed so fast while it was read that it may lack some of them`);
    if (flaws.length > 0) tellFlaws(request.of, flaws, warn);
    return [...rows];
  }

  async #read<T>(cluster: Cluster, call: FleetRead<T> & { from?: string }): Promise<FleetAnswer<T>> {
    const { endpoints } = await this.#resolver.hosts(cluster, call);
    const hosts = endpoints.filter(({ host }) => call.from === undefined || host === call.from);
    return this.#forgetting(cluster, this.#http.read(cluster, hosts, call));
  }

  async #change(cluster: Cluster, call: FleetChange): Promise<Refusal | undefined> {
    const { endpoints } = await this.#resolver.hosts(cluster, call);
    const probe = { ...PROBE, hedgeMs: HEDGE_MS, signal: call.signal };
    await this.#forgetting(cluster, this.#http.findResponding(cluster, endpoints, probe));
    return this.#forgetting(cluster, this.#http.change(cluster, endpoints, call));
  }

  /** After a failure of all hosts the cluster may have moved, so discovery is asked again. */
  async #forgetting<T>(cluster: Cluster, answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof ActionError && ALL_FAILED.has(error.code)) this.#resolver.forget(cluster);
      throw error;
    }
  }
}

const ALL_FAILED = new Set([
  'cluster_unreachable',
  'cluster_unhealthy',
  'cluster_answer_invalid',
  'forbidden',
]);

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
    const shown = invalid.slice(0, 3).map((name) => printable(JSON.stringify(name.slice(0, 60))));
    const more = invalid.length > 3 ? ', ...' : '';
    warn?.(
      `The cluster lists ${invalid.length} invalid unit ${invalid.length === 1 ? 'name' : 'names'}, which were left out: ${shown.join(', ')}${more}`,
    );
  }
  return valid;
}

/**
 * Tells a caller that can be told which rows are wrong. For another one, a list without them would be false.
 * @throws ActionError `cluster_answer_invalid`
 */
function tellFlaws(of: string, flaws: readonly string[], warn: ListOptions['warn']): void {
  const atLeast = flaws.length === MAX_FLAWS ? 'at least ' : '';
  const more = flaws.length > 3 ? `, and ${atLeast}${flaws.length - 3} more` : '';
  const sentence = `Some ${of} of the cluster cannot be read correctly: ${flaws.slice(0, 3).join(', ')}${more}`;
  if (warn === undefined) throw invalidList(sentence);
  warn(sentence);
}

/** The unit, or undefined when fleet has none. */
function foundIn(answer: FleetAnswer<Unit>): Unit | undefined {
  return answer.refusal === undefined ? answer.value : undefined;
}

function unitOfName(name: string, body: unknown): Unit {
  const unit = readUnit(body);
  if (unit.name === name) return unit;
  throw new UnusableResponse('invalid', `it is another unit than ${name}`);
}

function refused({ status, message }: Refusal): ActionError {
  return new ActionError(
    'cluster_refused',
    `The cluster's fleet API refused the request with HTTP status ${status}${message && `: ${message}`}`,
    { details: { status } },
  );
}
