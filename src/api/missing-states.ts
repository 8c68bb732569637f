import type { Unit, UnitState } from './fleet-transport.js';
import { isGlobalUnit } from './unit-requirements.js';

/**
 * The names of the units that should run but have no state on their machine. A state that its machine does not refresh
 * for 30 seconds disappears: the unit may run all the same. A unit that was just launched has no state for some seconds.
 * Global units are left out, as fleet does not say on which machines they should run.
 */
export function unitsWithoutState(units: readonly Unit[], states: readonly UnitState[]): string[] {
  const keyOf = (name: string, machineID: string | null) => `${name}\0${machineID}`;
  const known = new Set(states.map(({ name, machineID }) => keyOf(name, machineID)));
  return units
    .filter((unit) => unit.desiredState === 'launched' && unit.machineID !== null && !isGlobalUnit(unit))
    .filter(({ name, machineID }) => !known.has(keyOf(name, machineID)))
    .map(({ name }) => name);
}
