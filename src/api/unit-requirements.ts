import type { Machine, UnitOption } from './fleet-transport.js';
import { isTrueForFleet } from './unit-booleans.js';

/** What of a unit decides on which machines it may run. */
interface UnitFile {
  name: string;
  options: readonly UnitOption[];
}

/** With the older name, and `Replaces`, which fleet v1.0 treats alike. */
const CONFLICTS: ReadonlySet<string> = new Set(['Conflicts', 'X-Conflicts', 'Replaces']);

/** The requirements for a machine in a unit's section `[X-Fleet]`, without `MachineOf` and `Conflicts`. */
export interface UnitRequirements {
  /** The machine's id, or its first eight digits. */
  machineID: string | undefined;
  /** The accepted values of each metadata key. A machine must have one of them for every key. */
  metadata: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Whether fleet runs the unit on every machine that meets its requirements, not only on one. */
export function isGlobalUnit(unit: UnitFile): boolean {
  return isTrueForFleet(valuesOf(unit, 'Global').at(-1) ?? '');
}

/** Whether other units may keep this one off a machine, by its own options. */
export function hasConflicts({ options }: Pick<UnitFile, 'options'>): boolean {
  return options.some(({ section, name }) => section === 'X-Fleet' && CONFLICTS.has(name));
}

/** Reads a unit's requirements as fleet v1.0 does, including the older option names (fleet, job/job.go). */
export function requirementsOf(unit: UnitFile): UnitRequirements {
  const [machineID] = ['MachineID', 'X-ConditionMachineID', 'X-ConditionMachineBootID'].flatMap((option) =>
    valuesOf(unit, option),
  );
  const metadata = new Map<string, Set<string>>();
  for (const pair of ['X-ConditionMachineMetadata', 'MachineMetadata'].flatMap((name) =>
    valuesOf(unit, name),
  )) {
    const [key = '', value = '', more] = pair.split('=', 3);
    // fleet ignores a value that is not exactly one KEY=VALUE.
    if (key === '' || value === '' || more !== undefined) continue;
    metadata.set(key, (metadata.get(key) ?? new Set()).add(value));
  }
  return { machineID, metadata };
}

/** Whether a machine meets all of these requirements (fleet, agent/state.go and machine/state.go). */
export function meetsRequirements(
  { id, metadata }: Pick<Machine, 'id' | 'metadata'>,
  { machineID, metadata: required }: UnitRequirements,
): boolean {
  if (machineID !== undefined && machineID !== id && machineID !== id.slice(0, 8)) return false;
  return [...required].every(
    ([key, values]) => Object.hasOwn(metadata, key) && values.has(metadata[key] ?? ''),
  );
}

/** The machines on which fleet may run a unit by its requirements, without `MachineOf` and `Conflicts`. */
export function machinesMeeting<M extends Pick<Machine, 'id' | 'metadata'>>(
  unit: UnitFile,
  machines: readonly M[],
): M[] {
  const requirements = requirementsOf(unit);
  return machines.filter((machine) => meetsRequirements(machine, requirements));
}

/**
 * The maximum number of values with specifiers, and of characters of such a value: a specifier becomes up to 256
 * characters, and a cluster may have units of megabytes of them.
 */
const MAX_REPLACED = 512;

/** The values of one option, with specifiers replaced. */
function valuesOf({ name, options }: UnitFile, option: string): string[] {
  const stem = name.slice(0, name.lastIndexOf('.'));
  const [prefix = '', instance = ''] = stem.split(/@(.*)/s);
  const specifiers: Record<string, string> = { n: name, N: stem, p: prefix, i: instance };
  return requirementValues(options, option).map((value, index) =>
    index >= MAX_REPLACED || value.length > MAX_REPLACED
      ? value
      : value.replace(/%([nNpi])/g, (_, letter: string) => specifiers[letter] ?? ''),
  );
}

/** The values of one option of `[X-Fleet]`, as they are written; one line may have several: `"region=eu" "role=web"`. */
export function requirementValues(options: readonly UnitOption[], option: string): string[] {
  return options
    .filter((each) => each.section === 'X-Fleet' && each.name === option)
    .flatMap(({ value }) => (/^".*"$/.test(value) ? value.slice(1, -1).split(/" +"/) : [value]));
}
