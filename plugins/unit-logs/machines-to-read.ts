import {
  ActionError,
  type Cluster,
  type FleetTransport,
  isGlobalUnit,
  type Machine,
  machinesOfUnit,
  type Unit,
  type Warn,
  type WarningFacts,
} from '../../src/plugin.js';

/** The machines whose journals have the lines of a unit. */
export interface MachinesToRead {
  /** Their ids, sorted; at least one. */
  ids: readonly string[];
  /** The machines that fleet lists, by id. */
  listed: ReadonlyMap<string, Machine>;
  /** Why fleet may list too few machines; asked only when the lines may be on one that it does not list. */
  incompleteness: string | undefined;
  /** Whether lines may be on more machines than these. */
  mayBeMore: boolean;
}

interface Request {
  /** The name of the unit. */
  unit: string;
  /** The id of the only machine to read. */
  only: string | undefined;
  cluster: Cluster;
  signal: AbortSignal;
  warn: Warn;
}

/**
 * Finds the machines that a unit runs on; for a global unit all that should run it, whether or not they show a state of it: a
 * state that is not refreshed disappears while the unit runs on.
 * @throws ActionError `unit_not_found`; without any machine `unit_not_scheduled`, `machine_not_found` or `cluster_incomplete`
 */
export async function machinesToRead(fleet: FleetTransport, request: Request): Promise<MachinesToRead> {
  const { unit: name, only, cluster, signal, warn } = request;
  const flaws: { states?: string; machines?: string } = {};
  const warnOf = (list: keyof typeof flaws) => (text: string, facts?: WarningFacts) => {
    flaws[list] = text;
    warn(text, facts);
  };
  const [unit, states, machines] = await Promise.all([
    fleet.unit(cluster, name, { signal }),
    fleet.unitStates(cluster, { unitName: name, signal, warn: warnOf('states') }),
    fleet.machines(cluster, { signal, warn: warnOf('machines') }),
  ]);
  if (unit === undefined) throw new ActionError('unit_not_found', `The cluster has no unit ${name}`);
  const listed = new Map(machines.map((machine) => [machine.id, machine]));
  const all = machinesOfUnit(unit, states, machines);
  const ids = only === undefined ? all : all.filter((id) => id === only);
  const details = { machines: all };
  if (ids.length === 0 && only !== undefined && isElsewhere(unit, only, listed))
    throw new ActionError('unit_not_scheduled', `${name} is not scheduled on the machine ${only}`, {
      details,
    });

  const mayBeMore = isGlobalUnit(unit) && only === undefined;
  const isSure = ids.length > 0 && !mayBeMore && ids.every((id) => listed.has(id));
  const incompleteness = isSure
    ? undefined
    : (flaws.machines ??
      (await fleet.incompleteness(cluster, { signal })) ??
      (machines.length === 0 ? 'fleet lists no machine' : undefined));
  if (ids.length > 0) return { ids, listed, incompleteness, mayBeMore };

  const where = only === undefined ? 'on any machine' : `on the machine ${only}`;
  const unsure = incompleteness ?? flaws.states;
  if (unsure !== undefined)
    throw new ActionError('cluster_incomplete', `fleet does not show ${name} ${where}. ${unsure}`, {
      details,
    });
  if (only !== undefined && isGlobalUnit(unit))
    throw new ActionError('machine_not_found', `The machine ${only} is not in the cluster`, { details });
  throw new ActionError('unit_not_scheduled', `${name} is not scheduled ${where}`, { details });
}

/** Whether fleet says for sure that it wants a unit not on this machine, also when its lists lack something. */
function isElsewhere(unit: Unit, only: string, listed: ReadonlyMap<string, Machine>): boolean {
  return isGlobalUnit(unit) ? listed.has(only) : unit.machineID !== null;
}
