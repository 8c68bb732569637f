import type { Machine, UnitOption } from '../plugin.js';

/** Whether a unit runs on every machine that meets its requirements, not on one of them. */
export function isGlobal(options: readonly UnitOption[]): boolean {
  return fleetOptions(options, 'Global').at(-1)?.toLowerCase() === 'true';
}

/** Whether a name is a template's (`web@.service`): templates are kept for their instances and never run. */
export function isTemplate(name: string): boolean {
  return /^[^@]+@\.[^.]+$/.test(name);
}

/**
 * Whether a machine meets a unit's `MachineID` and `MachineMetadata` requirements: of several values for one
 * metadata key any will do, of several keys all must be met (fleet, job/job.go). `MachineOf` and `Conflicts` are
 * not looked at.
 */
export function meetsRequirements(machine: Machine, options: readonly UnitOption[]): boolean {
  const [machineID] = fleetOptions(options, 'MachineID');
  if (machineID !== undefined && machineID !== machine.id) return false;
  return [...requiredMetadata(options)].every(([key, values]) => values.has(machine.metadata[key] ?? ''));
}

/** Why fleet refuses to create a unit with such options, or undefined when it takes them (fleet, api/units.go). */
export function contradiction(options: readonly UnitOption[]): string | undefined {
  const pinned = fleetOptions(options, 'MachineID').length > 0;
  const follows = fleetOptions(options, 'MachineOf').length > 0;
  if (pinned && follows) return 'MachineID cannot be used with Peers';
  if (pinned && fleetOptions(options, 'Conflicts').length > 0)
    return 'MachineID cannot be used with Conflicts';
  if (pinned && isGlobal(options)) return 'MachineID cannot be used with Global';
  if (isGlobal(options) && follows) return 'Global cannot be used with Peers';
  return undefined;
}

function requiredMetadata(options: readonly UnitOption[]): Map<string, Set<string>> {
  const required = new Map<string, Set<string>>();
  for (const pair of fleetOptions(options, 'MachineMetadata')) {
    const [key = '', value = '', ...more] = pair.split('=');
    // fleet ignores a requirement that is not one KEY=VALUE.
    if (key === '' || value === '' || more.length > 0) continue;
    required.set(key, (required.get(key) ?? new Set()).add(value));
  }
  return required;
}

/** The values of one option of the section `[X-Fleet]`; one line may carry several: `"region=eu" "role=web"`. */
function fleetOptions(options: readonly UnitOption[], name: string): string[] {
  return options
    .filter((option) => option.section === 'X-Fleet' && option.name === name)
    .flatMap(({ value }) => (/^".*"$/.test(value) ? value.slice(1, -1).split(/" +"/) : [value]));
}
