import { type UnitState, unitsWithoutState, type UnitWithoutState } from '../../src/plugin.js';
import type { Machine } from '../../src/plugin.js';
import { type Conditions, isActive } from './conditions.js';
import { type Finding, named } from './finding.js';
import type { KnownUnit } from './known-unit.js';

/** Units without a state where they should have one. Without a list of machines no global unit is compared. */
export function missingStates(
  units: readonly KnownUnit[],
  states: readonly UnitState[],
  machines: readonly Machine[] | undefined,
  conditions: Conditions,
): Finding[] {
  return unitsWithoutState(units, states, machines ?? []).map((missing) => {
    // Without a state in fleet it is the machine itself that says so.
    const activeOn = (conditions.get(missing.name) ?? []).filter(isActive);
    return missingState(
      missing,
      missing.missingOn.filter((id) => activeOn.some(({ machine_id }) => machine_id === id)),
    );
  });
}

function missingState({ name, missingOn, expected }: UnitWithoutState, activeOn: readonly string[]): Finding {
  const where =
    expected === 1 ? 'its machine reports' : `${missingOn.length} of its ${expected} machines report`;
  return {
    severity: 'warning',
    kind: 'state_missing',
    subject: name,
    message: `${name} should run, but ${where} no state of it: ${named(missingOn)}`,
    advice:
      'Check again: a unit that was just launched, or whose machine has just joined, has no state for some seconds, and after an outage of etcd for up to a minute. If it stays so, look at fleet.service on the machine, and for units whose Conflicts name this one; the unit itself may be running.',
    evidence: {
      expected,
      count: missingOn.length,
      missing_on: missingOn.slice(0, 50),
      active_on: activeOn.slice(0, 50),
    },
  };
}
