import type { Machine, Unit, UnitState } from './fleet-transport.js';
import { hasConflicts, isGlobalUnit, machinesMeeting } from './unit-requirements.js';

/** A launched unit that has no state where it should have one. */
export interface UnitWithoutState {
  name: string;
  /** The ids of the machines without a state of it; at least one. */
  missingOn: string[];
  /** The number of machines that should have one: 1, or for a global unit all that meet its requirements. */
  expected: number;
}

/**
 * The units that should run but have no state on their machine, or, when they are global, on some machines that meet their
 * requirements. A state that its machine does not refresh for 30 seconds disappears: the unit may run all the same. A unit
 * that was just launched has no state for some seconds, and so has a global unit on a machine that has just joined.
 * Global units with `Conflicts` are left out, as other units decide where they run.
 * @param machines those that fleet lists; only on these a state of a global unit can be missing
 */
export function unitsWithoutState(
  units: readonly Unit[],
  states: readonly UnitState[],
  machines: readonly Machine[],
): UnitWithoutState[] {
  const keyOf = (name: string, machineID: string | null) => `${name}\0${machineID}`;
  const known = new Set(states.map(({ name, machineID }) => keyOf(name, machineID)));
  return units.flatMap((unit) => {
    const { name } = unit;
    const expected = machinesToRunOn(unit, machines);
    const missingOn = expected.filter((id) => !known.has(keyOf(name, id)));
    return missingOn.length === 0 ? [] : [{ name, missingOn, expected: expected.length }];
  });
}

/** The ids of the machines on which a unit should run. */
function machinesToRunOn(unit: Unit, machines: readonly Machine[]): string[] {
  if (unit.desiredState !== 'launched') return [];
  if (!isGlobalUnit(unit)) return unit.machineID === null ? [] : [unit.machineID];
  if (hasConflicts(unit)) return [];
  return machinesMeeting(unit, machines).map(({ id }) => id);
}
