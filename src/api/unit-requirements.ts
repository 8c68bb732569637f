/** The part of a unit that says where it may run. */
interface UnitFile {
  name: string;
  options: readonly { section: string; name: string; value: string }[];
}

interface Machine {
  id: string;
  metadata: Readonly<Record<string, string>>;
}

/** What a unit requires of its machine in its section `[X-Fleet]`, without `MachineOf` and `Conflicts`. */
export interface UnitRequirements {
  /** The machine's id, or the first eight digits of it. */
  machineID: string | undefined;
  /** For each metadata key the accepted values; every key must match. */
  metadata: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Whether fleet runs the unit on every machine that meets its requirements, and not on one of them. */
export function isGlobalUnit(unit: UnitFile): boolean {
  return ['true', 'yes', '1', 'on', 't'].includes(valuesOf(unit, 'Global').at(-1)?.toLowerCase() ?? '');
}

/** A unit's requirements as fleet v1.0 reads them, with its older names of options (fleet, job/job.go). */
export function requirementsOf(unit: UnitFile): UnitRequirements {
  const [machineID] = ['MachineID', 'X-ConditionMachineID', 'X-ConditionMachineBootID'].flatMap((option) =>
    valuesOf(unit, option),
  );
  const metadata = new Map<string, Set<string>>();
  for (const pair of ['X-ConditionMachineMetadata', 'MachineMetadata'].flatMap((name) =>
    valuesOf(unit, name),
  )) {
    const [key = '', value = '', ...more] = pair.split('=');
    // fleet ignores what is not one KEY=VALUE.
    if (key === '' || value === '' || more.length > 0) continue;
    metadata.set(key, (metadata.get(key) ?? new Set()).add(value));
  }
  return { machineID, metadata };
}

/** Whether a machine meets all of these requirements (fleet, agent/state.go and machine/state.go). */
export function meetsRequirements(
  { id, metadata }: Machine,
  { machineID, metadata: required }: UnitRequirements,
): boolean {
  if (machineID !== undefined && machineID !== id && machineID !== id.slice(0, 8)) return false;
  return [...required].every(
    ([key, values]) => Object.hasOwn(metadata, key) && values.has(metadata[key] ?? ''),
  );
}

/** The values of one option, specifiers replaced; one line may carry several: `"region=eu" "role=web"`. */
function valuesOf({ name, options }: UnitFile, option: string): string[] {
  const stem = name.slice(0, name.lastIndexOf('.'));
  const [prefix = '', instance = ''] = stem.split(/@(.*)/s);
  const specifiers: Record<string, string> = { n: name, N: stem, p: prefix, i: instance };
  return options
    .filter((each) => each.section === 'X-Fleet' && each.name === option)
    .flatMap(({ value }) => (/^".*"$/.test(value) ? value.slice(1, -1).split(/" +"/) : [value]))
    .map((value) => value.replace(/%([nNpi])/g, (_, letter: string) => specifiers[letter] ?? ''));
}
