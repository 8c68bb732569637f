import type { UnitOption } from './fleet-transport.js';
import { globMatcher } from './grammar.js';
import { isTrueForFleet } from './unit-booleans.js';
import { isGlobalUnit, requirementValues } from './unit-requirements.js';

/** The options of `[X-Fleet]`, with the older names (fleet 1.0.0, job/job.go). */
const KNOWN: ReadonlySet<string> = new Set([
  'MachineID',
  'X-ConditionMachineID',
  'X-ConditionMachineBootID',
  'X-ConditionMachineOf',
  'MachineOf',
  'X-Conflicts',
  'Conflicts',
  'X-ConditionMachineMetadata',
  'MachineMetadata',
  'Global',
  'Replaces',
]);

/**
 * Why fleetd does not create a unit with these options; undefined: it does. It asks this of new units only, so a unit that is there can
 * get options with which it is never scheduled (fleet 1.0.0, api/units.go, ValidateOptions). A class of characters in a pattern of
 * `Conflicts`, such as `[ab]`, is not looked into here.
 */
export function conflictInRequirements(options: readonly UnitOption[]): string | undefined {
  const valuesOf = (...names: string[]) => names.flatMap((name) => requirementValues(options, name));
  const peers = valuesOf('X-ConditionMachineOf', 'MachineOf');
  const conflicts = valuesOf('X-Conflicts', 'Conflicts').flatMap((value) => value.match(/\S+/g) ?? []);
  const replaces = valuesOf('Replaces');
  for (const [name, patterns] of [
    ['Conflicts', conflicts],
    ['Replaces', replaces],
  ] as const)
    for (const pattern of new Set(patterns)) {
      const peer = peers.find(globMatcher(pattern));
      if (peer !== undefined) return `MachineOf=${peer} cannot be met together with ${name}=${pattern}`;
    }
  const isUsed = {
    MachineID: valuesOf('MachineID', 'X-ConditionMachineID', 'X-ConditionMachineBootID').length > 0,
    Global: isGlobalUnit({ name: '', options }),
    MachineOf: peers.length > 0,
    Conflicts: conflicts.length > 0,
    Replaces: replaces.length > 0,
  };
  const pair = NEVER_TOGETHER.find(([one, other]) => isUsed[one] && isUsed[other]);
  return pair && `${pair[0]} cannot be used with ${pair[1]}`;
}

const NEVER_TOGETHER = [
  ['MachineID', 'MachineOf'],
  ['MachineID', 'Conflicts'],
  ['MachineID', 'Global'],
  ['MachineID', 'Replaces'],
  ['Global', 'MachineOf'],
  ['Global', 'Replaces'],
  ['Conflicts', 'Replaces'],
] as const;

/** The options of `[X-Fleet]` that fleet does not know: fleetctl refuses such a file, fleetd does as if they were not there. */
export function unknownRequirements(options: readonly UnitOption[]): string[] {
  const names = options.flatMap(({ section, name }) =>
    section === 'X-Fleet' && !KNOWN.has(name) ? [name] : [],
  );
  return [...new Set(names)];
}

/** The options of `[X-Fleet]` whose values fleet ignores, each as it is written. */
export function ignoredRequirements(options: readonly UnitOption[]): string[] {
  const ignored = (name: string, counts: (value: string) => boolean) =>
    requirementValues(options, name).flatMap((value) => (counts(value) ? [] : [`${name}=${value}`]));
  return [
    ...ignored('Global', (value) => isTrueForFleet(value) || /^(?:0|no?|f(?:alse)?|off)$/i.test(value)),
    ...['MachineMetadata', 'X-ConditionMachineMetadata'].flatMap((name) =>
      ignored(name, (value) => /^[^=]+=[^=]+$/.test(value)),
    ),
  ];
}
