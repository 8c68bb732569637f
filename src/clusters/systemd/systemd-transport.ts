import { ActionError } from '../../api/action-error.js';
import type { Cancellable } from '../../api/cancellable.js';
import type { Cluster } from '../../api/cluster.js';
import { noteResponse } from '../../api/cluster.js';
import type {
  ChangeOptions,
  ClusterHostsReport,
  DesiredState,
  FleetTransport,
  ListOptions,
  Machine,
  MachineAddress,
  StateListOptions,
  Unit,
  UnitOption,
  UnitListOptions,
  UnitReadOptions,
  UnitState,
} from '../../api/fleet-transport.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import { partOf, RowList } from '../../api/row-list.js';
import { unitFileHash, unitFileText } from '../../api/unit-file.js';
import { machinesMeeting } from '../../api/unit-requirements.js';
import type { Warn } from '../../api/warn.js';
import type { Clock } from '../../lib/clock.js';
import { missingIn, noneReached } from './machine-answers.js';
import { surveyMachines, type SurveyedMachine, type Surveys } from './machine-surveys.js';
import { allUnits, type MachineUnit, operatorUnits } from './operator-units.js';
import type { Survey } from './survey.js';
import type { SystemdMachine } from './systemd-machine.js';
import type { SystemdUnitControl } from './systemd-unit-control.js';
import type { MachineRequest } from './once-on-machines.js';

export interface SystemdTransportOptions {
  shell: RemoteShell;
  /** The machines of a cluster. @throws ActionError when it has none */
  machinesOf: (cluster: Cluster) => readonly SystemdMachine[];
  units: SystemdUnitControl;
  clock: Pick<Clock, 'now'>;
}

/** How long a change may take, in milliseconds; a longer one goes on. */
const CHANGE_MS = 120_000;

/**
 * A cluster of plain hosts with systemd, reached by SSH. Its units are the operator's own, as `operatorUnits` finds them. A unit of one
 * name on several machines is one unit with a state for each, as a global unit of fleet is.
 *
 * What fleet calls the desired state is here whether the unit is enabled: `launched` when it is, else `loaded`. One whose file has no
 * section `[Install]` cannot be enabled, and is as desired. Its current state is `launched` where it is active, or about to be.
 */
export class SystemdTransport implements FleetTransport {
  readonly #shell: RemoteShell;
  readonly #machinesOf: (cluster: Cluster) => readonly SystemdMachine[];
  readonly #units: SystemdUnitControl;
  readonly #clock: Pick<Clock, 'now'>;
  /** What the last list lacked. A `Cluster` is that of one request. */
  readonly #missing = new WeakMap<Cluster, Parameters<Warn>>();
  /** The survey that began in this turn. */
  #begun: { cluster: Cluster; signal: AbortSignal; surveys: Promise<Surveys> } | undefined;

  constructor({ shell, machinesOf, units, clock }: SystemdTransportOptions) {
    this.#shell = shell;
    this.#machinesOf = machinesOf;
    this.#units = units;
    this.#clock = clock;
  }

  async machines(cluster: Cluster, options: ListOptions): Promise<Machine[]> {
    return (await this.#surveyed(cluster, options)).map(({ machine }) => machine);
  }

  async addresses(cluster: Cluster, { from }: ListOptions): Promise<MachineAddress[]> {
    return this.#machinesOf(cluster)
      .filter(({ host }) => from === undefined || host === from)
      .map(({ host }) => ({ id: null, host }));
  }

  /** What the last list of this request has told, if it lacked a machine: another one would only ask all machines again. */
  async incompleteness(cluster: Cluster, { warn }: { warn?: Warn }): Promise<string | undefined> {
    const known = this.#missing.get(cluster);
    if (known !== undefined) warn?.(...known);
    return known?.[0];
  }

  async hosts(cluster: Cluster, { signal }: Cancellable): Promise<ClusterHostsReport> {
    const { reached, unreachable } = await surveyMachines(this.#shell, this.#machinesOf(cluster), { signal });
    if (reached.length > 0) noteResponse(cluster);
    const hosts = [
      ...reached.map(({ machine: { primaryIP } }) => ({ host: primaryIP ?? '', failure: undefined })),
      ...unreachable.map(({ host, reason }) => ({ host, failure: reason })),
    ];
    return { hosts, unlisted: [], ignored: [], moreIgnored: 0 };
  }

  async units(cluster: Cluster, options: UnitListOptions): Promise<Unit[]> {
    return unitsOn(await this.#surveyed(cluster, options), options);
  }

  async unit(
    cluster: Cluster,
    name: string,
    { signal, accepts }: UnitReadOptions,
  ): Promise<Unit | undefined> {
    const unit = await this.#find(cluster, name, { signal });
    if (accepts === undefined || accepts(unit, 'the machines of the cluster')) return unit;
    throw new ActionError('cluster_answer_invalid', `the machines do not show ${name} as they should`);
  }

  async unitStates(
    cluster: Cluster,
    { unitName, machineID, all, ...options }: StateListOptions,
  ): Promise<UnitState[]> {
    const states: UnitState[] = [];
    for (const surveyed of await this.#surveyed(cluster, options)) {
      if (machineID !== undefined && surveyed.machine.id !== machineID) continue;
      states.push(...statesOn(surveyed, { unitName, all }));
    }
    return states.toSorted(byName);
  }

  async unitRows(cluster: Cluster, options: UnitListOptions): Promise<RowList<Unit>> {
    return rowsOf(await this.units(cluster, options));
  }

  async unitStateRows(cluster: Cluster, options: StateListOptions): Promise<RowList<UnitState>> {
    return rowsOf(await this.unitStates(cluster, options));
  }

  /** `launched` starts the unit and enables it, where it can be; the other states stop and disable it. */
  async setDesiredState(
    cluster: Cluster,
    unit: string,
    state: DesiredState,
    { signal }: ChangeOptions,
  ): Promise<void> {
    const request = this.#requestFor(cluster, signal);
    const [installing, running] =
      state === 'launched' ? (['enable', 'start'] as const) : (['disable', 'stop'] as const);
    try {
      await this.#units.change(request, { unit, verb: installing });
    } catch (error) {
      if (!(error instanceof ActionError) || error.code !== 'unit_not_installable') throw error;
    }
    await this.#units.change(request, { unit, verb: running });
  }

  /** Writes the file to the machines that have the unit, or else to those that meet the requirements of its section `[X-Fleet]`. */
  async putUnit(
    cluster: Cluster,
    { name, desiredState, options }: { name: string; desiredState: DesiredState; options: UnitOption[] },
    { signal }: Cancellable,
  ): Promise<void> {
    const having = (await this.unitStates(cluster, { unitName: name, signal })).flatMap(
      ({ machineID }) => machineID ?? [],
    );
    const eligible =
      having.length > 0
        ? having
        : machinesMeeting({ name, options }, await this.machines(cluster, { signal })).map(({ id }) => id);
    await this.#units.put(this.#requestFor(cluster, signal), {
      files: [{ unit: name, text: unitFileText(options) }],
      machines: eligible,
      activate: 'restart',
    });
    await this.setDesiredState(cluster, name, desiredState, { signal });
  }

  async destroyUnit(cluster: Cluster, unit: string, { signal }: Cancellable): Promise<boolean> {
    try {
      await this.#units.destroy(this.#requestFor(cluster, signal), { unit });
      return true;
    } catch (error) {
      if (error instanceof ActionError && error.code === 'unit_not_found') return false;
      throw error;
    }
  }

  #requestFor(cluster: Cluster, signal: AbortSignal): MachineRequest {
    return { cluster, signal, deadline: this.#clock.now() + CHANGE_MS, key: undefined, repeated: false };
  }

  /** What a machine has is known, also when others do not answer. @throws ActionError when one of these may have it */
  async #find(cluster: Cluster, name: string, { signal }: Cancellable): Promise<Unit | undefined> {
    const { reached, missing } = await this.#survey(cluster, { signal });
    const unit = unitsOn(reached, {}).find((each) => each.name === name);
    if (unit === undefined && missing !== undefined) throw incomplete(missing);
    return unit;
  }

  /** @throws ActionError when no machine answered, or not all did and nobody wants to know which */
  async #surveyed(cluster: Cluster, { warn, ...options }: ListOptions): Promise<readonly SurveyedMachine[]> {
    const { reached, missing } = await this.#survey(cluster, options);
    if (missing !== undefined && warn === undefined) throw incomplete(missing);
    if (missing !== undefined) warn?.(...missing);
    return reached;
  }

  /** @throws ActionError when no machine answered */
  async #survey(
    cluster: Cluster,
    { signal, from }: Pick<ListOptions, 'signal' | 'from'>,
  ): Promise<{ reached: readonly SurveyedMachine[]; missing: Parameters<Warn> | undefined }> {
    const all = this.#machinesOf(cluster);
    const asked = from === undefined ? all : all.filter(({ host }) => host === from);
    const { reached, unreachable } = await (from === undefined
      ? this.#surveyOfAll(cluster, all, signal)
      : surveyMachines(this.#shell, asked, { signal }));
    if (reached.length > 0) noteResponse(cluster);
    else if (unreachable.length > 0) throw noneReached(unreachable);
    const missing = missingIn(unreachable, asked.length);
    if (missing === undefined) this.#missing.delete(cluster);
    else this.#missing.set(cluster, missing);
    return { reached, missing };
  }

  /** Lists that a request asks for at once share one survey: nothing can have changed between them. */
  async #surveyOfAll(
    cluster: Cluster,
    machines: readonly SystemdMachine[],
    signal: AbortSignal,
  ): Promise<Surveys> {
    const begun = this.#begun;
    if (begun?.cluster === cluster && begun.signal === signal) return begun.surveys;
    const surveys = surveyMachines(this.#shell, machines, { signal });
    this.#begun = { cluster, signal, surveys };
    queueMicrotask(() => (this.#begun = undefined));
    return surveys;
  }
}

function incomplete([text, details]: Parameters<Warn>): ActionError {
  return new ActionError('cluster_incomplete', text, { details });
}

interface Placed {
  machine: Machine;
  unit: MachineUnit;
}

function unitsOn(machines: readonly SurveyedMachine[], options: Pick<UnitListOptions, 'all'>): Unit[] {
  const placed = new Map<string, Placed[]>();
  for (const { machine, survey } of machines)
    for (const unit of listedUnits(survey, options).values()) {
      const others = placed.get(unit.name);
      if (others === undefined) placed.set(unit.name, [{ machine, unit }]);
      else others.push({ machine, unit });
    }
  return [...placed.values()].map(unitOf).toSorted(byName);
}

function unitOf(placed: readonly Placed[]): Unit {
  const [first] = placed;
  if (first === undefined) throw new TypeError('a unit is on no machine');
  const isSomewhere = (is: (unit: MachineUnit) => boolean) => placed.some(({ unit }) => is(unit));
  return {
    name: first.unit.name,
    options: [...first.unit.options],
    desiredState: isSomewhere((unit) => unit.isEnabled || (!isInstallable(unit) && isUp(unit)))
      ? 'launched'
      : 'loaded',
    currentState: isSomewhere(isUp) ? 'launched' : 'loaded',
    machineID: placed.length === 1 ? first.machine.id : null,
  };
}

function isInstallable({ options }: MachineUnit): boolean {
  return options.some(({ section }) => section === 'Install');
}

function listedUnits(
  survey: Survey,
  { all = false }: Pick<UnitListOptions, 'all'>,
): Map<string, MachineUnit> {
  return all ? allUnits(survey) : operatorUnits(survey);
}

function isUp({ loaded }: MachineUnit): boolean {
  return ['active', 'activating', 'reloading', 'refreshing'].includes(loaded?.active ?? '');
}

function* statesOn(
  { machine, survey }: SurveyedMachine,
  { unitName, all }: Pick<StateListOptions, 'unitName' | 'all'>,
): Generator<UnitState> {
  for (const { name, path, options, loaded } of listedUnits(survey, { all }).values()) {
    if (unitName !== undefined && name !== unitName) continue;
    yield {
      name,
      hash: path === undefined ? null : unitFileHash(options),
      machineID: machine.id,
      // PID 1 forgets a unit that nothing needs; asked for, it would say this.
      systemdLoadState: loaded?.load ?? 'loaded',
      systemdActiveState: loaded?.active ?? 'inactive',
      systemdSubState: loaded?.sub ?? 'dead',
    };
  }
}

function byName(one: { name: string }, other: { name: string }): number {
  return one.name < other.name ? -1 : one.name > other.name ? 1 : 0;
}

function rowsOf<Row>(rows: readonly Row[]): RowList<Row> {
  return new RowList(rows.length === 0 ? [] : [partOf(rows.map((row) => JSON.stringify(row)))]);
}
