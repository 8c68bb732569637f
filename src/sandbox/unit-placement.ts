import type { Machine, UnitOption } from '../api/fleet-transport.js';
import { isGlobalUnit, meetsRequirements, requirementsOf } from '../api/unit-requirements.js';

/** Decides which machines units are scheduled to, as fleet's engine does. */
export class UnitPlacement {
  /** The number of units scheduled to each machine. */
  readonly #load = new Map<string, number>();

  /**
   * The ids of the machines for a unit that is to run: every fitting one for a global unit, else one. That is the
   * present one as long as it fits, or else the one with the fewest units.
   */
  choose(
    unit: { name: string; options: readonly UnitOption[] },
    placed: readonly string[],
    machines: readonly Machine[],
  ): string[] {
    const requirements = requirementsOf(unit);
    const able = machines.filter((machine) => meetsRequirements(machine, requirements)).map(({ id }) => id);
    if (isGlobalUnit(unit)) return able;
    const kept = placed.find((id) => able.includes(id));
    if (kept !== undefined) return [kept];
    const leastLoadedFirst = able.toSorted((a, b) => (this.#load.get(a) ?? 0) - (this.#load.get(b) ?? 0));
    return leastLoadedFirst.slice(0, 1);
  }

  /** Counts that a unit was moved from some machines to others. */
  moved(from: readonly string[], to: readonly string[]): void {
    for (const id of from) this.#load.set(id, (this.#load.get(id) ?? 0) - 1);
    for (const id of to) this.#load.set(id, (this.#load.get(id) ?? 0) + 1);
  }
}
