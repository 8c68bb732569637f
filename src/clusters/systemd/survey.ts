import { type LoadedUnit, loadedUnitsIn } from '../../api/loaded-units.js';
import { sectionsOf } from '../../api/sections.js';
import { SECTIONS } from './survey-script.js';

/** A file, folder or link in a folder of units. */
export interface UnitEntry {
  type: string;
  /** In bytes; of a link that of its target's name. */
  size: number;
  path: string;
  /** Where a link leads, as it is written there; empty: it is none. */
  link: string;
}

/** What a machine knows of its units. */
export interface Survey {
  /** `/etc/machine-id`. */
  machineID: string;
  bootID: string;
  uptimeSeconds: number;
  /** Such as 252; NaN: it does not say. */
  systemdVersion: number;
  loaded: ReadonlyMap<string, LoadedUnit>;
  entries: readonly UnitEntry[];
  /** The text of unit files, by path; nothing for an empty one. */
  texts: ReadonlyMap<string, string>;
}

/**
 * Reads what `SURVEY_SCRIPT` has printed.
 * @throws Error that says what is missing, also when the output was cut off
 */
export function readSurvey(output: string, mark: string): Survey {
  const sections = sectionsOf(output, mark, SECTIONS);
  const [machineID = '', bootID = '', uptime = '', version = ''] = sections.machine.split('\n');
  if (!/^[0-9a-f]{32}$/.test(machineID)) throw new Error('it has no machine id in /etc/machine-id');
  return {
    machineID,
    bootID,
    uptimeSeconds: Number(uptime),
    systemdVersion: Number(/^systemd (\d+)/.exec(version)?.[1] ?? Number.NaN),
    loaded: loadedUnitsIn(sections.loaded),
    entries: entriesIn(sections.files),
    texts: textsIn(sections.text),
  };
}

export function entriesIn(text: string): UnitEntry[] {
  const fields = text.split('\0');
  const entries: UnitEntry[] = [];
  for (let at = 0; at + 2 < fields.length; at += 3) {
    const [type = '', size = ''] = (fields[at] ?? '').split(' ');
    entries.push({ type, size: Number(size), path: fields[at + 1] ?? '', link: fields[at + 2] ?? '' });
  }
  return entries;
}

function textsIn(text: string): Map<string, string> {
  const texts = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('\0');
    if (at < 0) continue;
    const path = line.slice(0, at);
    texts.set(path, `${texts.get(path) ?? ''}${line.slice(at + 1)}\n`);
  }
  return texts;
}
