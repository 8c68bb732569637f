import {
  ActionError,
  type Cluster,
  type FleetTransport,
  globMatcher,
  isGlobalUnit,
  isTemplateName,
  type Machine,
  type Unit,
  type UnitControl,
  unitFileHash,
  type UnitState,
} from '../../src/plugin.js';
import type { Operation, Target } from './plan.js';

export interface Selector {
  operation: Operation;
  units?: string | undefined;
  metadata?: Record<string, string> | undefined;
  machine_ids?: string[] | undefined;
}

interface Ports {
  fleet: FleetTransport;
  units: Pick<UnitControl, 'kindOf'>;
}

/**
 * The units that a rollout changes, where they are.
 * @throws ActionError `nothing_selected`, `machine_not_found`, or an error of the port
 */
export async function selected(
  selector: Selector,
  { cluster, signal }: { cluster: Cluster; signal: AbortSignal },
  { fleet, units: control }: Ports,
): Promise<Target[]> {
  const { units: pattern, metadata = {}, machine_ids: ids } = selector;
  if (pattern === undefined && ids === undefined && Object.keys(metadata).length === 0)
    throw nothing('give units, metadata or machine_ids');
  const isFleet = control.kindOf(cluster) === 'fleet';
  const exact = selector.units !== undefined && !/[*?]/.test(selector.units) ? selector.units : undefined;
  // Who names a unit of the distribution means it; a pattern is for the operator's own.
  const options = { signal, all: exact !== undefined };
  // A list that lacks something is an error: what is left out would be left out silently.
  const [machines, units, states] = await Promise.all([
    fleet.machines(cluster, { signal }),
    fleet.units(cluster, options),
    fleet.unitStates(cluster, options),
  ]);
  const chosen = machinesOf(selector, machines);
  const matches = selector.units === undefined ? () => true : globMatcher(selector.units);
  const named = units.filter(({ name }) => matches(name) && !isTemplateName(name));
  const targets = isFleet ? fleetTargets(named, states, chosen) : hostTargets(named, states, chosen);
  if (selector.operation === 'put' && exact !== undefined)
    targets.push(...newTargets(exact, { isFleet, isKnown: named.length > 0, chosen, targets }));
  if (selector.operation === 'start' && exact !== undefined && !isFleet && chosen !== undefined)
    targets.push(...instancesToStart(exact, { states, chosen, targets }));
  if (exact !== undefined && !isFleet)
    requireOnEach(
      exact,
      (ids ?? []).filter((id) => chosen?.has(id)),
      targets,
    );
  if (targets.length === 0) throw nothing('no unit on a machine of the cluster is selected');
  return targets;
}

/**
 * Where `put` creates the unit: on the selected machines that do not have it; fleet chooses the machine itself.
 * @throws ActionError
 */
function newTargets(
  unit: string,
  {
    isFleet,
    isKnown,
    chosen,
    targets,
  }: {
    isFleet: boolean;
    isKnown: boolean;
    chosen: ReadonlySet<string> | undefined;
    targets: readonly Target[];
  },
): Target[] {
  if (isFleet && isKnown) return [];
  if (isFleet && chosen !== undefined)
    throw new ActionError(
      'unsupported_by_cluster',
      `Nothing was changed: ${unit} is new, and fleet itself chooses its machine: select it without machine_ids and metadata, and say where in its section [X-Fleet]`,
    );
  if (isFleet) return [{ unit, machineID: null, states: [], hash: null }];
  if (chosen === undefined && !isKnown)
    throw nothing(`no machine has ${unit}: select where it shall be, by machine_ids or metadata`);
  const having = new Set(targets.map(({ machineID }) => machineID));
  return [...(chosen ?? [])]
    .filter((id) => !having.has(id))
    .map((machineID) => ({ unit, machineID, states: [], hash: null }));
}

/** @throws ActionError when a machine that was named has no such unit: nobody means to leave it out */
function requireOnEach(unit: string, ids: readonly string[], targets: readonly Target[]): void {
  if (targets.length === 0) return;
  const missing = ids.filter((id) => !targets.some(({ machineID }) => machineID === id));
  if (missing.length > 0)
    throw new ActionError(
      'unit_not_found',
      `Nothing was changed: ${unit} is not on every machine that was named`,
      { details: { machine_ids: missing } },
    );
}

/** An instance of a template that is neither loaded nor enabled is in no list: it is where its template is, on the selected machines. */
function instancesToStart(
  unit: string,
  {
    states,
    chosen,
    targets,
  }: { states: readonly UnitState[]; chosen: ReadonlySet<string>; targets: readonly Target[] },
): Target[] {
  const template = unit.replace(/@.+(?=\.[a-z]+$)/, '@');
  const having = new Set(targets.map(({ machineID }) => machineID));
  return states.flatMap(({ name, machineID, hash }) =>
    name === template &&
    name !== unit &&
    machineID !== null &&
    chosen.has(machineID) &&
    !having.has(machineID)
      ? [{ unit, machineID, states: ['inactive'], hash }]
      : [],
  );
}

/** The ids of the machines that are selected; undefined: all. */
function machinesOf(
  { metadata, machine_ids: ids }: Selector,
  machines: readonly Machine[],
): ReadonlySet<string> | undefined {
  if (metadata === undefined && ids === undefined) return undefined;
  const missing = (ids ?? []).filter((id) => !machines.some((machine) => machine.id === id));
  if (missing.length > 0)
    throw new ActionError('machine_not_found', `The cluster lists no machine ${missing.join(', ')}`, {
      details: { machine_ids: missing },
    });
  const wanted = Object.entries(metadata ?? {});
  return new Set(
    machines
      .filter(({ id }) => ids === undefined || ids.includes(id))
      .filter((machine) =>
        wanted.every(
          ([key, value]) => Object.hasOwn(machine.metadata, key) && machine.metadata[key] === value,
        ),
      )
      .map(({ id }) => id),
  );
}

/** fleet changes a unit as a whole, wherever it is. */
function fleetTargets(
  units: readonly Unit[],
  all: readonly UnitState[],
  chosen: ReadonlySet<string> | undefined,
): Target[] {
  return units.flatMap((unit) => {
    const { name, machineID } = unit;
    const rows = all.filter((row) => row.name === name);
    if (chosen !== undefined && isGlobalUnit(unit))
      throw new ActionError(
        'unsupported_by_cluster',
        `${name} is a global unit of a fleet cluster, so it cannot be changed on some machines only: select units without machine_ids and metadata`,
      );
    if (chosen !== undefined && (machineID === null || !chosen.has(machineID))) return [];
    const own = rows.filter((row) => row.machineID === machineID);
    const states = statesIn(own.length > 0 ? own : rows);
    return [{ unit: name, machineID, states, hash: unitFileHash(unit.options) }];
  });
}

function hostTargets(
  units: readonly Unit[],
  states: readonly UnitState[],
  chosen: ReadonlySet<string> | undefined,
): Target[] {
  const names = new Set(units.map(({ name }) => name));
  return states
    .filter(({ name, machineID }) => {
      return names.has(name) && machineID !== null && (chosen === undefined || chosen.has(machineID));
    })
    .map((row) => ({ unit: row.name, machineID: row.machineID, states: statesIn([row]), hash: row.hash }));
}

function statesIn(rows: readonly UnitState[]): string[] {
  return [...new Set(rows.flatMap(({ systemdActiveState: active }) => active ?? []))].toSorted();
}

function nothing(why: string): ActionError {
  return new ActionError('nothing_selected', `Nothing was changed: ${why}`);
}
