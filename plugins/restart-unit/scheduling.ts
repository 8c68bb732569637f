import type { Machine, Unit } from '../../src/plugin.js';

/** Whether fleet runs a unit on every machine. */
export function isGlobal(unit: Unit): boolean {
  return fleetOptions(unit).some(({ name, value }) => name === 'Global' && value.toLowerCase() === 'true');
}

/**
 * The requirements of a unit that no machine of the cluster meets, as its file writes them. Each is looked at by itself:
 * whether one machine meets them all together is fleet's to find out.
 * @see https://github.com/coreos/fleet/blob/master/Documentation/unit-files-and-scheduling.md
 */
export function unmetRequirements(unit: Unit, machines: readonly Machine[]): string[] {
  return fleetOptions(unit).flatMap(({ name, value }) => {
    if (name === 'MachineID') return machines.some(({ id }) => id === value) ? [] : [`MachineID=${value}`];
    if (name !== 'MachineMetadata') return [];
    const choices = metadataOf(value);
    const met = machines.some(({ metadata }) => choices.some(([key, wanted]) => metadata[key] === wanted));
    return met || choices.length === 0 ? [] : [`MachineMetadata=${value}`];
  });
}

/** Everything a unit's file asks of its machine. */
export function requirements(unit: Unit): string[] {
  return fleetOptions(unit)
    .filter(({ name }) => ['MachineID', 'MachineMetadata', 'MachineOf', 'Conflicts'].includes(name))
    .map(({ name, value }) => `${name}=${value}`);
}

function fleetOptions(unit: Unit): { name: string; value: string }[] {
  return unit.options.filter(({ section }) => section === 'X-Fleet');
}

/** `"role=web" "role=data"` means either of them. */
function metadataOf(value: string): [key: string, wanted: string][] {
  const words = value.match(/"[^"]*"|\S+/g) ?? [];
  return words.map((word) => {
    const pair = word.replace(/^"|"$/g, '');
    const at = pair.indexOf('=');
    return [pair.slice(0, at), pair.slice(at + 1)];
  });
}
