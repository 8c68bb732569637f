import { array, object, string } from 'yup';
import {
  ActionError,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  machineId,
  type Unit,
  unitName,
  unitsWithoutState,
  withTimeLimit,
} from '../../src/plugin.js';

/** States are compared with units only in lists that are not longer: reading units costs more than reading states. */
const MOST_COMPARED = 1_000;
/** How long that may take, in milliseconds. */
const COMPARE_MS = 5_000;

export default defineAction({
  name: 'list_unit_states',
  summary: 'Lists the systemd states of the units on each machine of a cluster.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName().optional().meta({ description: 'Only the states of this unit.' }),
    machine_id: machineId().optional().meta({ description: 'Only the states on this machine.' }),
  }),
  result: array(
    object({
      name: string()
        .required()
        .meta({ description: "The unit's name; a global unit has a state on every machine." }),
      hash: string().nullable().defined().meta({ description: 'The sha1 of the running unit file.' }),
      machineID: string().nullable().defined().meta({ description: 'The id of the machine.' }),
      systemdLoadState: string().nullable().defined().meta({ description: 'Such as loaded, not-found.' }),
      systemdActiveState: string()
        .nullable()
        .defined()
        .meta({ description: 'Such as active, inactive, failed.' }),
      systemdSubState: string().nullable().defined().meta({ description: 'Such as running, dead, exited.' }),
    }),
  ).required(),
  inject: { fleet: FleetTransport, clock: Clock },

  async handle({ parameters, cluster, signal, warn }, { fleet, clock }) {
    const filter = { unitName: parameters.unit_name, machineID: parameters.machine_id };
    // First, so that a large list is not held while something else is read.
    const missing = await fleet.incompleteness(cluster, { signal });
    if (missing !== undefined) warn(missing);
    const states = await fleet.unitStates(cluster, { ...filter, signal, warn });
    if (states.length < MOST_COMPARED) {
      const units = await unitsOf(cluster, filter, { fleet, clock, signal, warn });
      warnOfMissing(unitsWithoutState(units, states), warn);
    }
    return states;
  },
});

interface UnitFilter {
  unitName: string | undefined;
  machineID: string | undefined;
}

/** The units whose states were asked for; with a warning when they cannot be read, or not in time. */
async function unitsOf(
  cluster: Cluster,
  { unitName: name, machineID: machine }: UnitFilter,
  tools: { fleet: FleetTransport; clock: Clock; signal: AbortSignal; warn: (text: string) => void },
): Promise<Unit[]> {
  const { fleet, clock, signal, warn } = tools;
  const message = `no complete answer within ${COMPARE_MS / 1_000} s`;
  const unsure = (reason: string) =>
    warn(`Not all units could be read, so it is not known whether states are missing: ${reason}`);
  const read = async (limited: AbortSignal) => {
    if (name === undefined) return fleet.units(cluster, { signal: limited, warn: unsure });
    const unit = await fleet.unit(cluster, name, { signal: limited });
    return unit === undefined ? [] : [unit];
  };
  try {
    const units = await withTimeLimit({ ms: COMPARE_MS, message, clock, signal }, read);
    return machine === undefined ? units : units.filter(({ machineID }) => machineID === machine);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ActionError)) throw error;
    unsure(error.message);
    return [];
  }
}

function warnOfMissing(names: readonly string[], warn: (text: string) => void): void {
  if (names.length === 0) return;
  const shown = names.length > 3 ? `such as ${names.slice(0, 3).join(', ')}` : names.join(', ');
  const units = names.length === 1 ? '1 launched unit has' : `${names.length} launched units have`;
  warn(`${units} no state at the moment (${shown}): just launched, or not reported by the machine`);
}
