import { isGlobalUnit } from '../api/unit-requirements.js';
import type { UnitOption } from '../api/fleet-transport.js';

/** Why fleet refuses to create a unit with these options; undefined when it accepts them (fleet, api/units.go). */
export function optionProblem(unit: { name: string; options: readonly UnitOption[] }): string | undefined {
  const has = (name: string) =>
    unit.options.some((option) => option.section === 'X-Fleet' && option.name === name);
  const global = isGlobalUnit(unit);
  if (has('MachineID') && has('MachineOf')) return 'MachineID cannot be used with Peers';
  if (has('MachineID') && has('Conflicts')) return 'MachineID cannot be used with Conflicts';
  if (has('MachineID') && global) return 'MachineID cannot be used with Global';
  if (global && has('MachineOf')) return 'Global cannot be used with Peers';
  return undefined;
}
