import { systemdBoolean, type Unit, unitFileHash } from '../../src/plugin.js';

/** A unit of fleet without the rest of its file, so that the files of a large cluster are not held while its states are read. */
export interface KnownUnit extends Unit {
  /** The hash that its states should have. */
  hash: string;
  /** Whether it is inactive when it has done its work. */
  endsByItself: boolean;
}

export function knownUnit(unit: Unit): KnownUnit {
  const { options } = unit;
  const type = options.findLast(({ section, name }) => section === 'Service' && name === 'Type')?.value;
  return {
    ...unit,
    options: options.filter(({ section }) => section === 'X-Fleet'),
    hash: unitFileHash(options),
    endsByItself: type === 'oneshot' && !systemdBoolean(options, 'Service', 'RemainAfterExit'),
  };
}
