import { type Machine, meetsRequirements, requirementsOf, type Unit } from '../../src/plugin.js';

/**
 * The requirements that prevent every machine of the cluster from running a unit: those that no machine meets. If each
 * requirement is met by some machine, but no machine meets all of them, all are returned. Empty: a machine can run it.
 */
export function unmetRequirements(unit: Unit, machines: readonly Machine[]): string[] {
  const { machineID, metadata } = requirementsOf(unit);
  const single = [
    ...(machineID === undefined ? [] : [{ machineID, metadata: new Map<string, ReadonlySet<string>>() }]),
    ...[...metadata].map(([key, values]) => ({ machineID: undefined, metadata: new Map([[key, values]]) })),
  ];
  if (machines.some((machine) => meetsRequirements(machine, { machineID, metadata }))) return [];
  const alone = single.filter((each) => !machines.some((machine) => meetsRequirements(machine, each)));
  return (alone.length > 0 ? alone : single).map((each) =>
    each.machineID === undefined
      ? [...each.metadata]
          .map(
            ([key, values]) =>
              `MachineMetadata=${[...values].map((value) => `${key}=${value}`).join(' or ')}`,
          )
          .join()
      : `MachineID=${each.machineID}`,
  );
}

/** The scheduling options in a unit's file, as written there. */
export function writtenRequirements({ options }: Unit): string[] {
  return options
    .filter(({ section, name }) => section === 'X-Fleet' && name !== 'Global')
    .map(({ name, value }) => `${name}=${value}`);
}
