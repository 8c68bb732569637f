import type { UnitOption } from './fleet-transport.js';

const TRUE: ReadonlySet<string> = new Set(['1', 'yes', 'y', 'true', 't', 'on']);
const FALSE: ReadonlySet<string> = new Set(['0', 'no', 'n', 'false', 'f', 'off']);
/** fleet's own options know neither `y` nor a false value: all others are false (fleet, job/job.go). */
const TRUE_FOR_FLEET: ReadonlySet<string> = new Set(['1', 'yes', 'true', 't', 'on']);

/**
 * A boolean setting of a unit file as systemd reads it: the last valid value counts, as systemd ignores others (systemd,
 * src/basic/parse-util.c, parse_boolean).
 */
export function systemdBoolean(options: readonly UnitOption[], section: string, name: string): boolean {
  const last = options
    .filter((option) => option.section === section && option.name === name)
    .map(({ value }) => value.trim().toLowerCase())
    .findLast((value) => TRUE.has(value) || FALSE.has(value));
  return last !== undefined && TRUE.has(last);
}

/** Whether fleet reads a value of a unit's section `[X-Fleet]` as true. */
export function isTrueForFleet(value: string): boolean {
  return TRUE_FOR_FLEET.has(value.toLowerCase());
}
