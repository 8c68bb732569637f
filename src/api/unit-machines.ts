import type { Machine, Unit, UnitState } from './fleet-transport.js';
import { isGlobalUnit, machinesMeeting } from './unit-requirements.js';

/**
 * The ids of the machines that a unit is on, as far as its cluster shows it; of a global unit all that should have it, also without a
 * state: a state that is not refreshed disappears while the unit runs on.
 * @param states those of this unit
 */
export function machinesOfUnit(
  unit: Unit,
  states: readonly Pick<UnitState, 'machineID'>[],
  machines: readonly Machine[],
): string[] {
  const isGlobal = isGlobalUnit(unit);
  if (!isGlobal && unit.machineID !== null) return [unit.machineID];
  const shown = states.flatMap(({ machineID }) => (machineID === null ? [] : [machineID]));
  const able =
    isGlobal && unit.desiredState !== 'inactive' ? machinesMeeting(unit, machines).map(({ id }) => id) : [];
  return [...new Set([...shown, ...able])].toSorted();
}
