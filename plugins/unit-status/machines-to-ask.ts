import {
  ActionError,
  type Cluster,
  type FleetTransport,
  isGlobalUnit,
  machinesOfUnit,
  type Unit,
  type UnitState,
  type UnreachableHost,
  type Warn,
} from '../../src/plugin.js';

/** A machine that has the unit, or may have it. */
export interface MachineToAsk {
  /** Null: not known, as the machine does not answer. */
  id: string | null;
  host: string | null;
  /** What the cluster shows of the unit there. */
  row: UnitState | undefined;
  /** Why it cannot be asked; undefined: it can, at `host`. */
  error: ActionError | undefined;
}

export interface MachinesToAsk {
  /** Undefined: the cluster does not list the unit. */
  unit: Unit | undefined;
  /** Whether the cluster lists the unit, or a state of it. */
  isListed: boolean;
  machines: readonly MachineToAsk[];
  /** Why the cluster cannot say whether it has the unit; undefined: it can. */
  failure: ActionError | undefined;
}

interface Request {
  /** The name of the unit. */
  unit: string;
  /** The ids of the only machines to ask. */
  only: readonly string[] | undefined;
  /** Whether to ask every machine when the cluster does not list the unit. */
  searches: boolean;
  cluster: Cluster;
  signal: AbortSignal;
  warn: Warn;
}

/**
 * Finds the machines that have a unit: those that show a state of it, and those that it is scheduled to, as a state that is not refreshed
 * disappears while the unit runs on.
 * @throws ActionError `machine_not_found`, or `cluster_incomplete`, when none of the machines in `only` is listed
 */
export async function machinesToAsk(fleet: FleetTransport, request: Request): Promise<MachinesToAsk> {
  const { unit: name, only, searches, cluster, signal, warn } = request;
  const unreachable = new Map<string, UnreachableHost>();
  let flaw: Parameters<Warn> | undefined;
  const note: Warn = (...given) => (flaw = given);
  const tell: Warn = (text, facts) => {
    for (const each of facts?.unreachable ?? []) unreachable.set(each.host, each);
    if (facts?.unreachable !== undefined) note(text, facts);
    warn(text, facts);
  };
  const [{ unit, failure }, states, machines] = await Promise.all([
    listedUnit(fleet, request),
    fleet.unitStates(cluster, { unitName: name, signal, warn: tell }),
    fleet.machines(cluster, { signal, warn: tell }),
    fleet.incompleteness(cluster, { signal, warn: note }),
  ]);
  const isListed = unit !== undefined || states.length > 0;
  const listed = new Map(machines.map((machine) => [machine.id, machine]));
  const rows = new Map(states.map((row) => [row.machineID, row]));
  const having = [
    ...states.flatMap(({ machineID }) => machineID ?? []),
    ...(unit === undefined ? [] : machinesOfUnit(unit, states, machines)),
  ];
  const wanted = only ?? (isListed || !searches ? having : [...listed.keys()]);
  const toAsk = [...new Set(wanted)].toSorted().map((id): MachineToAsk => {
    const machine = listed.get(id);
    const error = machine === undefined ? notListed(id, flaw?.[0]) : undefined;
    return { id, host: machine?.primaryIP ?? null, row: rows.get(id), error };
  });
  const isKnown = only?.some((id) => listed.has(id) || rows.has(id)) ?? true;
  if (only !== undefined && !isKnown) throw notListed(only.join(', '), flaw?.[0]);
  const isSure = only?.every((id) => listed.has(id)) ?? false;
  if (flaw !== undefined && only === undefined && (unit === undefined || isGlobalUnit(unit))) warn(...flaw);
  return {
    unit,
    isListed,
    failure,
    machines: [...toAsk, ...(isSure ? [] : [...unreachable.values()].map(notAnswering))],
  };
}

/** Undefined with the failure when a machine that does not answer may have the unit. */
async function listedUnit(
  fleet: FleetTransport,
  { cluster, unit: name, signal }: Pick<Request, 'cluster' | 'unit' | 'signal'>,
): Promise<{ unit: Unit | undefined; failure: ActionError | undefined }> {
  try {
    return { unit: await fleet.unit(cluster, name, { signal }), failure: undefined };
  } catch (error) {
    if (!(error instanceof ActionError) || error.code !== 'cluster_incomplete') throw error;
    return { unit: undefined, failure: error };
  }
}

function notAnswering({ host, code, reason }: UnreachableHost): MachineToAsk {
  return { id: null, host, row: undefined, error: new ActionError(code, reason) };
}

function notListed(id: string, flaw: string | undefined): ActionError {
  return flaw === undefined
    ? new ActionError('machine_not_found', `${id} is not a machine of the cluster, or no longer`)
    : new ActionError('cluster_incomplete', `The cluster does not list the machine ${id}. ${flaw}`);
}
