import { ActionError } from '../../api/action-error.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { PutOrder, UnitChange, UnitOrder, UnitPut } from '../../api/unit-control.js';
import type { Cluster } from '../../api/cluster.js';
import { noteResponse } from '../../api/cluster.js';
import type { Clock } from '../../lib/clock.js';
import { allMade, requireStartable } from '../unit-changes.js';
import { missingIn, noneReached } from './machine-answers.js';
import { surveyMachines, type SurveyedMachine, type Surveys } from './machine-surveys.js';
import { operatorUnits } from './operator-units.js';
import type { SystemdMachine } from './systemd-machine.js';
import { destroyOn } from './destroy-file.js';
import { putOn } from './put-files.js';
import type { AgedMachine, MachineRequest } from './once-on-machines.js';
import { changeOn } from './unit-verbs.js';

export interface SystemdUnitControlOptions {
  shell: RemoteShell;
  clock: Clock;
  /** The machines of a cluster. @throws ActionError when it has none */
  machinesOf: (cluster: Cluster) => readonly SystemdMachine[];
}

/** Changes units on plain hosts with systemd. */
export class SystemdUnitControl {
  readonly #options: SystemdUnitControlOptions;

  constructor(options: SystemdUnitControlOptions) {
    this.#options = options;
  }

  async change(request: MachineRequest, order: UnitOrder): Promise<UnitChange[]> {
    const { unit, verb } = order;
    if (verb === 'load' || verb === 'unload')
      throw new ActionError(
        'unsupported_by_cluster',
        `${unit} was not changed: to ${verb} a unit is an order to fleet, and this cluster is one of plain systemd hosts. Stop or start it instead`,
      );
    return this.#onChosen(request, order, async (machines) =>
      changeOn(this.#options, request, order, machines),
    );
  }

  async put(request: MachineRequest, order: PutOrder): Promise<UnitPut[]> {
    requireStartable(order);
    const surveys = await this.#surveys(request, order.machines);
    const chosen =
      order.machines === undefined
        ? machinesForFiles(order, surveys)
        : machinesNamed(order.machines, surveys);
    const machines = chosen.map(({ machine }) => machine);
    const unit = order.files.map((file) => file.unit).join(', ');
    return allMade({ unit, verb: 'put' }, await putOn(this.#options, request, order, machines));
  }

  async destroy(
    request: MachineRequest,
    order: Pick<UnitOrder, 'unit' | 'machines' | 'timeoutMs'>,
  ): Promise<UnitChange[]> {
    return this.#onChosen(request, { ...order, verb: 'destroy' }, async (machines) =>
      destroyOn(this.#options, request, order, machines),
    );
  }

  /** Changes a unit on the machines that the order names, or that have it. */
  async #onChosen(
    request: MachineRequest,
    { unit, verb, machines: named }: { unit: string; verb: string; machines?: UnitOrder['machines'] },
    make: (machines: AgedMachine[]) => Promise<UnitChange[]>,
  ): Promise<UnitChange[]> {
    const surveys = await this.#surveys(request, named);
    const chosen = named === undefined ? machinesWith(unit, surveys) : machinesNamed(named, surveys);
    const changes = await make(chosen.map(({ machine, survey }) => ({ machine, age: survey })));
    // What the survey does not list may be a unit of the distribution, on some of the machines.
    const knowing = changes.filter(({ error }) => error?.code !== 'unit_not_found');
    return allMade({ unit, verb }, named === undefined && knowing.length > 0 ? knowing : changes);
  }

  /** @param named those that are to be changed; by default all that have the unit, so that one that does not answer matters */
  async #surveys(
    { cluster, signal, warn }: MachineRequest,
    named: readonly string[] | undefined,
  ): Promise<Surveys> {
    const { shell, machinesOf } = this.#options;
    const machines = machinesOf(cluster);
    const surveys = await surveyMachines(shell, machines, { signal });
    if (surveys.reached.length > 0) noteResponse(cluster);
    else if (surveys.unreachable.length > 0) throw noneReached(surveys.unreachable);
    const missing = missingIn(surveys.unreachable, machines.length);
    if (named === undefined && missing !== undefined) warn?.(...missing);
    return surveys;
  }
}

/** @throws ActionError when no machine has one of the units */
function machinesForFiles(
  { files }: PutOrder,
  { reached, unreachable }: Surveys,
): readonly SurveyedMachine[] {
  const having = reached.filter(({ survey }) => {
    const units = operatorUnits(survey);
    return files.some(({ unit }) => units.has(unit));
  });
  if (having.length > 0) return having;
  const names = files.map(({ unit }) => unit).join(', ');
  throw unreachable.length > 0
    ? new ActionError(
        'cluster_incomplete',
        `${names}: on no machine that answers, and ${unreachable.length} do not. Nothing was changed`,
        { details: { unreachable } },
      )
    : new ActionError(
        'invalid_parameters',
        `No machine has ${names} yet, so machine_ids must name those that shall: nothing was changed`,
        { details: { fields: [{ field: 'machine_ids', message: 'is required for a new unit' }] } },
      );
}

/** The machines that have the unit; all, when none is known to. */
function machinesWith(unit: string, { reached, unreachable }: Surveys): readonly SurveyedMachine[] {
  const having = reached.filter(({ survey }) => {
    const load = survey.loaded.get(unit)?.load;
    return (load !== undefined && load !== 'not-found') || operatorUnits(survey).has(unit);
  });
  if (having.length === 0 && unreachable.length > 0)
    throw new ActionError(
      'cluster_incomplete',
      `${unit} is on no machine that answers, and ${unreachable.length} do not: nothing was changed`,
      { details: { unreachable } },
    );
  return having.length > 0 ? having : reached;
}

function machinesNamed(ids: readonly string[], { reached, unreachable }: Surveys): SurveyedMachine[] {
  const found = new Map(reached.map((each) => [each.machine.id, each]));
  const missing = ids.filter((id) => !found.has(id));
  if (missing.length > 0)
    throw new ActionError(
      unreachable.length > 0 ? 'cluster_incomplete' : 'machine_not_found',
      `No machine of the cluster that answers has the id ${missing.join(', ')}: nothing was changed`,
      { details: { machine_ids: missing, unreachable } },
    );
  return [...new Set(ids)].flatMap((id) => found.get(id) ?? []);
}
