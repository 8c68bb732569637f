import { ActionError } from '../../api/action-error.js';
import type { Cancellable } from '../../api/cancellable.js';
import type { Cluster } from '../../api/cluster.js';
import { isUnitName } from '../../api/grammar.js';
import type { RowList } from '../../api/row-list.js';
import type { Warn, WarningFacts } from '../../api/warn.js';
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
  type StateListOptions,
  type UnitReadOptions,
} from '../../api/fleet-transport.js';
import type { Machine, MachineAddress, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';
import { ClusterHttp, type FleetAnswer, type FleetChange, type FleetRead } from './cluster-http.js';
import { Completeness, type Incompleteness } from './completeness.js';
import type { Discovery } from './discovery.js';
import { jsonOf, type Refusal, UnusableResponse } from './fleet-answer.js';
import { readMachine, readPage, readUnit, readUnitState } from './fleet-responses.js';
import { invalidList, ListReader, MAX_FLAWS, type ListRequest, type ReadList } from './list-reader.js';
import { RecentMachines } from './recent-machines.js';
import { rowListOf, type StoredRow } from './stored-rows.js';

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
const nameOf = ({ name }: { name: string }) => name;
const UNITS: ListRequest<Unit> = { path: 'units', of: 'units', readRow: readUnit, keyOf: nameOf, nameOf };
const STATES: ListRequest<UnitState> = {
  path: 'state',
  of: 'states',
  readRow: readUnitState,
  // As fleet compares the two fields; no name contains the separator. Joined: a template would keep the two texts besides its own.
  keyOf: ({ name, machineID }) => [name, machineID].join('\0'),
  nameOf,
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
    const machines = await (await this.#all(cluster, options, MACHINES)).toArray();
    this.#recent.add(cluster, machines);
    return machines;
  }

  async addresses(cluster: Cluster, options: ListOptions): Promise<MachineAddress[]> {
    const machines = await this.machines(cluster, options);
    return machines.map(({ id, primaryIP }) => ({ id, host: primaryIP }));
  }

  async incompleteness(
    cluster: Cluster,
    { warn, ...options }: Cancellable & { warn?: Warn },
  ): Promise<string | undefined> {
    const known = await this.#incompleteness(cluster, options);
    if (known !== undefined) warn?.(known.sentence, factsOf(known));
    return known?.sentence;
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
    return (await this.unitRows(cluster, options)).toArray();
  }

  async unitRows(cluster: Cluster, options: ListOptions): Promise<RowList<Unit>> {
    return this.#all(cluster, options, UNITS);
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

  async unitStates(cluster: Cluster, options: StateListOptions): Promise<UnitState[]> {
    return (await this.unitStateRows(cluster, options)).toArray();
  }

  async unitStateRows(
    cluster: Cluster,
    { unitName, machineID, ...options }: StateListOptions,
  ): Promise<RowList<UnitState>> {
    return this.#all(cluster, options, { ...STATES, query: { unitName, machineID } });
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
  ): Promise<RowList<Row>> {
    const list = await this.#lists.list(cluster, signal, { ...request, from });
    const { complete, flaws } = list;
    if (!complete)
      warn?.(`The list of ${request.of} changed so fast while it was read that it may lack some of them`);
    if (flaws.length > 0) tellFlaws(request.of, flaws, warn);
    return rowListOf(withValidNames(list, warn));
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

/** The machines that are missing, unless any of the hosts may be one of them. */
function factsOf({ unlisted, areKnown }: Incompleteness): WarningFacts {
  if (!areKnown) return {};
  const [code, reason] = [
    'cluster_incomplete',
    'discovery names it, and fleet does not list it as a machine',
  ];
  return { unreachable: unlisted.map((host) => ({ host, code, reason })) };
}

/** fleet accepts only valid names, but others may have been written into its etcd: they do not spoil the list. */
function withValidNames({ rows, invalidNames }: ReadList, warn: ListOptions['warn']): readonly StoredRow[] {
  const names = new Set(rows.flatMap(({ key }) => invalidNames.get(key) ?? []));
  if (names.size === 0) return rows;
  const shown = [...names].slice(0, 3).map((name) => printable(JSON.stringify(name.slice(0, 60))));
  const more = names.size > 3 ? ', ...' : '';
  warn?.(
    `The cluster lists ${names.size} invalid unit ${names.size === 1 ? 'name' : 'names'}, which were left out: ${shown.join(', ')}${more}`,
  );
  return rows.filter(({ key }) => !invalidNames.has(key));
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
