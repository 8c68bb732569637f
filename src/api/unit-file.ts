import { createHash } from 'node:crypto';
import type { UnitOption } from './fleet-transport.js';

/**
 * The unit file that fleet writes for a unit's options: grouped by section, in the order in which the sections first
 * appear, with an empty line between sections (go-systemd, unit/serialize.go).
 */
export function unitFileText(options: readonly UnitOption[]): string {
  const sections = new Map<string, string>();
  for (const { section, name, value } of options) {
    sections.set(section, `${sections.get(section) ?? `[${section}]\n`}${name}=${value}\n`);
  }
  return [...sections.values()].join('\n');
}

/** The `hash` of fleet's state rows: sha1 of the unit file, in hexadecimal (fleet, unit/unit.go). */
export function unitFileHash(options: readonly UnitOption[]): string {
  return createHash('sha1').update(unitFileText(options)).digest('hex');
}
