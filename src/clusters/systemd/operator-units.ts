import { unitFileOptions } from '../../api/unit-file-options.js';
import type { UnitOption } from '../../api/fleet-transport.js';
import { isTemplateName, isUnitName } from '../../api/grammar.js';
import type { LoadedUnit } from '../../api/loaded-units.js';
import type { Survey, UnitEntry } from './survey.js';
import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';
import { isWorkUnit } from '../../api/work-unit.js';

/** A unit of one machine. */
export interface MachineUnit {
  name: string;
  /** Its file, or that of its template; undefined: none of the operator's. */
  path: string | undefined;
  options: readonly UnitOption[];
  /** Whether it is started at boot, by itself or by what is. */
  isEnabled: boolean;
  /** Undefined: PID 1 has not loaded it, as nothing needs it. */
  loaded: LoadedUnit | undefined;
}

const QUADLETS = /^(?:\/etc|\/run|\/usr\/share)\/containers\/systemd\//;

/**
 * The units of a machine that are its operator's: those with a file in one of the operator's folders, also as instances of a template
 * there; those that a generator made of a quadlet of Podman's; and those of `systemd-run`, as long as they are loaded. Aliases, masks
 * and what is enabled of the distribution's own are not.
 */
export function operatorUnits(survey: Survey): Map<string, MachineUnit> {
  const files = unitFiles(survey);
  const enabled = enabledUnits(survey.entries);
  const names = new Set(files.keys());
  for (const name of [...survey.loaded.keys(), ...enabled]) {
    const template = templateOf(name);
    if (template !== undefined && files.has(template)) names.add(name);
  }
  const units = new Map<string, MachineUnit>();
  const optionsOf = new Map<string, readonly UnitOption[]>();
  for (const name of names) {
    const path = files.get(name) ?? files.get(templateOf(name) ?? '');
    if (path === undefined) continue;
    let options = optionsOf.get(path);
    if (options === undefined) optionsOf.set(path, (options = unitFileOptions(survey.texts.get(path) ?? '')));
    units.set(name, { name, path, options, isEnabled: enabled.has(name), loaded: survey.loaded.get(name) });
  }
  return units;
}

/**
 * The operator's units, and every other one that PID 1 has loaded, without options. Those that only others refer to, and of which there
 * is nothing on the machine, are none.
 */
export function allUnits(survey: Survey): Map<string, MachineUnit> {
  const units = operatorUnits(survey);
  const enabled = enabledUnits(survey.entries);
  for (const loaded of survey.loaded.values()) {
    const { name, load, active } = loaded;
    if (units.has(name) || !isUnitName(name) || (load === 'not-found' && active === 'inactive')) continue;
    units.set(name, { name, path: undefined, options: [], isEnabled: enabled.has(name), loaded });
  }
  return units;
}

/** The paths of the operator's unit files, by the name of the unit. */
function unitFiles({ entries, texts, loaded }: Survey): Map<string, string> {
  const files = new Map<string, string>();
  for (const folder of [...OPERATOR_FOLDERS, GENERATED, TRANSIENT])
    for (const entry of entries) {
      const name = nameIn(folder, entry.path);
      if (name === undefined || files.has(name) || !(isUnitName(name) || isTemplateName(name))) continue;
      if (entry.type === 'l' ? isLinked(name, entry.link) : entry.type === 'f' && entry.size > 0) {
        const isOperators =
          folder === GENERATED
            ? QUADLETS.test(sourcePath(texts.get(entry.path)))
            : folder !== TRANSIENT || (loaded.has(name) && !isWorkUnit(name));
        if (isOperators) files.set(name, entry.path);
      }
    }
  return files;
}

function nameIn(folder: string, path: string): string | undefined {
  const name = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : '';
  return name === '' || name.includes('/') ? undefined : name;
}

/** Whether a link is the file of a unit (`systemctl link`), and neither an alias, a mask, nor what a distribution has. */
function isLinked(name: string, link: string): boolean {
  if (!link.startsWith('/') || /^(?:\/usr)?\/lib\/systemd\//.test(link)) return false;
  return link.slice(link.lastIndexOf('/') + 1) === name;
}

function sourcePath(text = ''): string {
  return (
    unitFileOptions(text).find(({ section, name }) => section === 'Unit' && name === 'SourcePath')?.value ??
    ''
  );
}

/** What some target or other unit wants or requires, by links in folders such as `multi-user.target.wants`. */
export function enabledUnits(entries: readonly UnitEntry[]): Set<string> {
  const enabled = new Set<string>();
  for (const { type, path } of entries) {
    const [, name] = /\.(?:wants|requires|upholds)\/([^/]+)$/.exec(path) ?? [];
    if (type === 'l' && name !== undefined) enabled.add(name);
  }
  return enabled;
}

/** The template of an instance, such as `web@.service` of `web@1.service`. */
export function templateOf(name: string): string | undefined {
  const [, prefix, type] = /^([^@]+@).+(\.[a-z]+)$/.exec(name) ?? [];
  return prefix === undefined || type === undefined ? undefined : `${prefix}${type}`;
}
