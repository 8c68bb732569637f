import { isWorkUnit, type LoadedUnit, loadedUnitsIn, shownProperties } from '../../src/plugin.js';

/** A unit of the operator's, as `systemctl show` says it. */
export interface ShownUnit {
  properties: Properties;
  /** How often systemd had restarted it some seconds later; undefined: it was not looked at again. */
  restartsLater: number | undefined;
}

/** By their names. */
export type Properties = ReadonlyMap<string, string>;

/** What systemd accepts as a name (systemd.unit(5)). */
const UNIT_NAME = /^[0-9A-Za-z:\-_.\\@]{1,256}$/;

/** @returns undefined when it is not what `systemctl list-units` prints: at least one unit is always loaded */
export function clusterUnitsIn(text: string): Map<string, LoadedUnit> | undefined {
  const units = loadedUnitsIn(text);
  // What this service does there is no part of the cluster.
  for (const name of units.keys()) if (isWorkUnit(name)) units.delete(name);
  return units.size === 0 ? undefined : units;
}

/** Reads what `UNIT_CHECK_SCRIPT` prints: a unit that is there twice was looked at again. */
export function shownUnitsIn(text: string): ShownUnit[] {
  const units = new Map<string, ShownUnit>();
  for (const block of text.split(/\n{2,}/)) {
    const properties = shownProperties(block);
    const id = properties.get('Id') ?? '';
    if (!UNIT_NAME.test(id)) continue;
    const before = units.get(id);
    units.set(
      id,
      before === undefined
        ? { properties, restartsLater: undefined }
        : { ...before, restartsLater: restartsOf(properties) },
    );
  }
  return [...units.values()];
}

/** How often systemd has restarted a unit by itself; undefined: systemd before 235 does not say. */
export function restartsOf(properties: Properties): number | undefined {
  const text = properties.get('NRestarts') ?? '';
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** The names in what `ls -A` prints of fleet's folder. */
export function fleetFilesIn(text: string): string[] {
  return text.split('\n').filter((name) => UNIT_NAME.test(name) && name.includes('.'));
}
