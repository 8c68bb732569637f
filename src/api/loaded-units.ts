/** A unit that PID 1 of a machine has loaded, as `systemctl list-units` says it. */
export interface LoadedUnit {
  name: string;
  /** `loaded`, `not-found`, `masked`, `bad-setting`, `error`. */
  load: string;
  active: string;
  sub: string;
}

/** What systemd accepts as a name (systemd.unit(5)). */
const UNIT_NAME = /^[0-9A-Za-z:\-_.\\@]{1,256}$/;

/**
 * The units in what `systemctl list-units --all --full --plain --no-legend` prints, by name. Lines that are none, such as an error of
 * systemctl's, are left out; at least one unit is always loaded.
 */
export function loadedUnitsIn(text: string): Map<string, LoadedUnit> {
  const units = new Map<string, LoadedUnit>();
  for (const line of text.split('\n')) {
    const [name = '', load = '', active = '', sub = ''] = line.trimStart().split(/ +/, 4);
    if (UNIT_NAME.test(name) && [load, active, sub].every(isState))
      units.set(name, { name, load, active, sub });
  }
  return units;
}

function isState(word: string): boolean {
  return /^[a-z-]+$/.test(word);
}
