import { array, boolean, object, string } from 'yup';
import {
  ActionError,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  isGlobalUnit,
  type Machine,
  machineId,
  type Unit,
  unitName,
  unitsWithoutState,
  UnitControl,
  type UnitWithoutState,
  type Warn,
  withTimeLimit,
} from '../../src/plugin.js';

/** States are compared with units only in lists that are not longer: reading units costs more than reading states. */
const MOST_COMPARED = 1_000;
/** In place of what may name units that the caller may not see. */
const MAY_LACK =
  'Not everything could be read completely: states of some units may be missing, without a warning for each';
/** How long that may take, in milliseconds. */
const COMPARE_MS = 5_000;

export default defineAction({
  name: 'list_unit_states',
  summary: 'Lists the systemd states of the units on each machine of a cluster.',
  target: 'cluster',
  effect: 'read',
  coalesce: true,
  parameters: object({
    unit_name: unitName().optional().meta({ description: 'Only the states of this unit.' }),
    machine_id: machineId().optional().meta({ description: 'Only the states on this machine.' }),
    all: boolean().optional().meta({
      description: 'On plain systemd hosts also the states of the units of the distribution that are loaded.',
    }),
  }),
  result: array(
    object({
      name: string().required().meta({
        column: 'UNIT',
        description:
          "The unit's name; a global unit has a state on every machine that meets its requirements.",
      }),
      hash: string().nullable().defined().meta({ description: 'The sha1 of the running unit file.' }),
      machineID: string()
        .nullable()
        .defined()
        .meta({ column: 'MACHINE', description: 'The id of the machine.' }),
      systemdLoadState: string().nullable().defined().meta({ description: 'Such as loaded, not-found.' }),
      systemdActiveState: string()
        .nullable()
        .defined()
        .meta({ column: 'ACTIVE', description: 'Such as active, inactive, failed.' }),
      systemdSubState: string()
        .nullable()
        .defined()
        .meta({ column: 'SUB', description: 'Such as running, dead, exited.' }),
    }),
  ).required(),
  inject: { fleet: FleetTransport, units: UnitControl, clock: Clock },

  async handle(
    { parameters, cluster, signal, warn, authorize, authorizesAll },
    { fleet, units: control, clock },
  ) {
    const filter = { unitName: parameters.unit_name, machineID: parameters.machine_id };
    const tell: Warn = authorizesAll ? warn : (_text, facts) => warn(MAY_LACK, facts);
    const [all] = await Promise.all([
      fleet.unitStateRows(cluster, { ...filter, all: parameters.all, signal, warn: tell }),
      fleet.incompleteness(cluster, { signal, warn }),
    ]);
    const states = authorizesAll ? all : await all.filter(({ name }) => authorize(name));
    // Of plain systemd hosts units and states come from the same place, so that none can lack.
    if (control.kindOf(cluster) === 'fleet' && states.length < MOST_COMPARED) {
      const { units, machines } = await expected(cluster, filter, { fleet, clock, signal, warn: tell });
      const visible = units.filter(({ name }) => authorize(name));
      warnOfMissing(unitsWithoutState(visible, await states.toArray(), machines), warn);
    }
    return states;
  },
});

interface UnitFilter {
  unitName: string | undefined;
  machineID: string | undefined;
}

interface Expected {
  units: readonly Unit[];
  /** Read only for global units. */
  machines: readonly Machine[];
}

/** The units whose states were asked for, and their machines; with a warning when they cannot be read, or not in time. */
async function expected(
  cluster: Cluster,
  { unitName: name, machineID: only }: UnitFilter,
  tools: { fleet: FleetTransport; clock: Clock; signal: AbortSignal; warn: Warn },
): Promise<Expected> {
  const { fleet, clock, signal, warn } = tools;
  const message = `no complete answer within ${COMPARE_MS / 1_000} s`;
  const unsure: Warn = (reason, facts) =>
    warn(
      `Not all units and machines could be read, so it is not known whether states are missing: ${reason}`,
      facts,
    );
  const unitsOf = async (limited: AbortSignal) => {
    if (name === undefined) return fleet.units(cluster, { signal: limited, warn: unsure });
    const unit = await fleet.unit(cluster, name, { signal: limited });
    return unit === undefined ? [] : [unit];
  };
  const read = async (limited: AbortSignal): Promise<Expected> => {
    const units = await unitsOf(limited);
    const machines = units.some(isGlobalUnit)
      ? await fleet.machines(cluster, { signal: limited, warn: unsure })
      : [];
    if (only === undefined) return { units, machines };
    return {
      units: units.filter((unit) => isGlobalUnit(unit) || unit.machineID === only),
      machines: machines.filter(({ id }) => id === only),
    };
  };
  try {
    return await withTimeLimit({ ms: COMPARE_MS, message, clock, signal }, read);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ActionError)) throw error;
    unsure(error.message);
    return { units: [], machines: [] };
  }
}

function warnOfMissing(units: readonly UnitWithoutState[], warn: Warn): void {
  if (units.length === 0) return;
  const texts = units.slice(0, 3).map(withMachines);
  const shown = units.length > 3 ? `such as ${texts.join(', ')}` : texts.join(', ');
  const have = units.length === 1 ? '1 launched unit has' : `${units.length} launched units have`;
  warn(
    `${have} no state at the moment (${shown}): just launched, on a machine that has just joined, or not reported by the machine`,
  );
}

/** A unit, and where it has no state, when it has one elsewhere. */
function withMachines({ name, missingOn, expected: all }: UnitWithoutState): string {
  if (missingOn.length === all) return name;
  return missingOn.length === 1
    ? `${name} on ${missingOn.join()}`
    : `${name} on ${missingOn.length} of ${all} machines`;
}
