import type { CommandResult } from '../simulated-machine.js';
import type { CommandSteps } from '../command-steps.js';
import { globMatcher } from '../../api/grammar.js';
import type { Job, LoadedUnit } from './loaded-unit.js';
import { jobOutcome, printed, refused } from './systemctl-texts.js';
import { type MachineTimes, shownProperties, unitFileState } from './shown-properties.js';
import type { Refusal, SimulatedSystemd } from './simulated-systemd.js';
import { OPERATOR_FOLDER } from './unit-folders.js';

export interface SystemctlContext {
  systemd: SimulatedSystemd;
  times: MachineTimes;
  /** Only root may change something. */
  isRoot: boolean;
}

/** How often systemctl looks whether its job is finished, in milliseconds. */
const LOOK_MS = 10;

/**
 * `systemctl` of systemd 252, for what the service uses: `show`, `list-units`, `is-active`, `is-failed`, `is-enabled`, `cat`, and the
 * changes, with the texts and the exit statuses of a real one.
 */
export function* systemctl(args: readonly string[], context: SystemctlContext): CommandSteps {
  const given = readArguments(args);
  if ('status' in given) return given;
  const { options, words } = given;
  if (options.has('version')) return printed('systemd 252 (252.39-1~deb12u2)\n');
  const [verb = 'list-units', ...units] = words;
  const run = VERBS[verb];
  if (run === undefined) return refused(`Unknown command verb ${verb}.`);
  const result = run(context, units, options);
  return 'status' in result ? result : yield* result;
}

type Options = ReadonlyMap<string, string>;
type Verb = (
  context: SystemctlContext,
  units: readonly string[],
  options: Options,
) => CommandResult | CommandSteps;

const VERBS: Readonly<Record<string, Verb>> = {
  show: (context, units, options) => show(context, units, options),
  'list-units': (context, patterns, options) => printed(listUnits(context, patterns, options)),
  'is-active': ({ systemd }, units) =>
    stateOf(
      units.map((unit) => systemd.unit(unit).active),
      (state) => state === 'active',
      3,
    ),
  'is-failed': ({ systemd }, units) =>
    stateOf(
      units.map((unit) => systemd.unit(unit).active),
      (state) => state === 'failed',
      1,
    ),
  'is-enabled': isEnabled,
  cat,
  'daemon-reload': asRoot(({ systemd }) => {
    systemd.daemonReload();
    return { status: 0 };
  }, 'Failed to reload daemon: '),
  'reset-failed': asRoot(({ systemd }, units) =>
    together(
      units.map((unit) =>
        systemd.resetFailed(unit)
          ? { status: 0 }
          : refused(`Failed to reset failed state of unit ${unit}: Unit ${unit} not loaded.`),
      ),
    ),
  ),
  enable: asRoot(enable, 'Failed to enable unit: '),
  disable: asRoot(disable, 'Failed to disable unit: '),
  start: asRoot(ordering('start')),
  stop: asRoot(ordering('stop')),
  restart: asRoot(ordering('restart')),
  reload: asRoot(ordering('reload')),
};

/** Options with a value, and those without, that change nothing of what is printed to a pipe. */
const VALUED = ['property', 'state', 'type', 'timestamp'];
const FLAGS = [
  'all',
  'full',
  'plain',
  'no-legend',
  'no-pager',
  'quiet',
  'version',
  'failed',
  'no-ask-password',
];
const SHORT: Readonly<Record<string, string>> = { p: 'property', t: 'type', a: 'all', l: 'full', q: 'quiet' };

function readArguments(args: readonly string[]): CommandResult | { options: Options; words: string[] } {
  const options = new Map<string, string>();
  const words: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? '';
    if (arg === '--') return { options, words: [...words, ...args.slice(at + 1)] };
    const [, long, value] = /^--([a-z-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const short = /^-([a-z])$/.exec(arg)?.[1];
    const name = long ?? (short === undefined ? undefined : SHORT[short]);
    if (!arg.startsWith('-')) words.push(arg);
    else if (name !== undefined && VALUED.includes(name)) {
      const text = value ?? args[++at] ?? '';
      options.set(name, options.has(name) ? `${options.get(name)},${text}` : text);
    } else if (name !== undefined && FLAGS.includes(name)) options.set(name, '');
    else return refused(`systemctl: unrecognized option '${arg}'`);
  }
  return { options, words };
}

function show(
  { systemd, times }: SystemctlContext,
  units: readonly string[],
  options: Options,
): CommandResult {
  const wanted = options.get('property')?.split(',');
  const blocks: string[] = [];
  for (const name of units.flatMap((each) => matching(each, systemd))) {
    if (/@\.[a-z]+$/.test(name)) {
      const stderr = `Failed to get properties: Unit name ${name} is neither a valid invocation ID nor unit name.\n`;
      return { status: 1, stdout: blocks.join('\n'), stderr };
    }
    const lines = [...shownProperties(systemd.unit(name), systemd, times)].filter(
      ([property, value]) => wanted?.includes(property) ?? value !== '',
    );
    blocks.push(lines.map(([property, value]) => `${property}=${value}\n`).join(''));
  }
  return printed(blocks.join('\n'));
}

/** A pattern means the loaded units that match it. */
function matching(pattern: string, systemd: SimulatedSystemd): string[] {
  if (!/[*?]/.test(pattern)) return [pattern];
  return [...systemd.loaded().keys()].filter(globMatcher(pattern));
}

/** By type as systemd sorts them, then by name. */
const KINDS = [
  'automount',
  'device',
  'mount',
  'path',
  'scope',
  'service',
  'slice',
  'socket',
  'swap',
  'target',
  'timer',
];

/** As `--plain --no-legend` prints it; the simulation knows no other form. */
function listUnits({ systemd }: SystemctlContext, patterns: readonly string[], options: Options): string {
  const states = options.get('state')?.split(',') ?? (options.has('failed') ? ['failed'] : undefined);
  const types = options.get('type')?.split(',');
  const units = [...systemd.loaded().values()].filter(({ name, active, sub, settings }) => {
    if (types !== undefined && !types.includes(kindOf(name))) return false;
    if (patterns.length > 0 && !patterns.some((pattern) => globMatcher(pattern)(name))) return false;
    if (states !== undefined) return states.some((state) => [active, sub, settings.load].includes(state));
    return options.has('all') || active !== 'inactive';
  });
  const rows = units
    .map(({ name, settings, active, sub }) => [
      name,
      settings.load,
      active,
      sub,
      settings.description ?? name,
    ])
    .toSorted(([one = ''], [other = '']) => KINDS.indexOf(kindOf(one)) - KINDS.indexOf(kindOf(other)));
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => `${row.map((text, at) => text.padEnd(widths[at] ?? 0)).join(' ')}\n`).join('');
}

function stateOf(
  states: readonly string[],
  isWanted: (state: string) => boolean,
  otherwise: number,
): CommandResult {
  const stdout = states.map((state) => `${state}\n`).join('');
  return { status: states.some(isWanted) ? 0 : otherwise, stdout };
}

function isEnabled({ systemd }: SystemctlContext, units: readonly string[]): CommandResult {
  const states = units.map((unit) => unitFileState(systemd.unit(unit), systemd));
  const missing = states.indexOf('');
  const stdout = (missing < 0 ? states : states.slice(0, missing)).map((state) => `${state}\n`).join('');
  if (missing >= 0)
    return {
      status: 1,
      stdout,
      stderr: `Failed to get unit file state for ${units[missing]}: No such file or directory\n`,
    };
  return {
    status: states.some((state) => ['enabled', 'static', 'generated', 'alias', 'indirect'].includes(state))
      ? 0
      : 1,
    stdout,
  };
}

function cat({ systemd }: SystemctlContext, units: readonly string[]): CommandResult {
  const texts: string[] = [];
  for (const unit of units) {
    const fragment = systemd.folders.fragmentOf(systemd.folders.aliased(unit));
    if (fragment === undefined)
      return { status: 1, stdout: texts.join('\n'), stderr: `No files found for ${unit}.\n` };
    for (const path of [fragment.path, ...fragment.dropIns])
      texts.push(`# ${path}\n${systemd.folders.textAt(path) ?? ''}`);
  }
  return printed(texts.join('\n'));
}

const NOT_INSTALLABLE = `The unit files have no installation config (WantedBy=, RequiredBy=, Also=,
Alias= settings in the [Install] section, and DefaultInstance= for template
units). This means they are not meant to be enabled using systemctl.
 
Possible reasons for having this kind of units are:
* A unit may be statically enabled by being symlinked from another unit's
  .wants/ or .requires/ directory.
* A unit's purpose may be to act as a helper for some other unit which has
  a requirement dependency on it.
* A unit may be started when needed via activation (socket, path, timer,
  D-Bus, udev, scripted systemctl call, ...).
* In case of template units, the unit is meant to be enabled with some
  instance name specified.
`;

function enable({ systemd }: SystemctlContext, units: readonly string[]): CommandResult {
  let stderr = '';
  for (const name of units) {
    const problem = installProblem(name, systemd);
    if (problem !== undefined) return { status: 1, stderr: `${stderr}Failed to enable unit: ${problem}\n` };
    const { path = '', settings } = systemd.unit(name);
    if (settings.install.length === 0) stderr += NOT_INSTALLABLE;
    for (const link of linksOf(name, settings.install)) {
      if (systemd.folders.has(link)) continue;
      systemd.folders.link(link, path);
      stderr += `Created symlink ${link} -> ${path}.\n`;
    }
  }
  systemd.daemonReload();
  return { status: 0, stderr };
}

function disable({ systemd }: SystemctlContext, units: readonly string[]): CommandResult {
  let stderr = '';
  for (const name of units) {
    const { path, settings } = systemd.unit(name);
    if (path === undefined)
      return { status: 1, stderr: `${stderr}Failed to disable unit: Unit file ${name} does not exist.\n` };
    const aliases = linksOf(name, settings.install).filter((link) => systemd.folders.linkAt(link) === path);
    for (const link of new Set([...systemd.folders.enablingLinks(name), ...aliases])) {
      systemd.folders.remove(link);
      stderr += `Removed "${link}".\n`;
    }
  }
  systemd.daemonReload();
  return { status: 0, stderr };
}

/** Why a unit cannot be enabled; undefined: it can, or there is nothing to be done. */
function installProblem(name: string, systemd: SimulatedSystemd): string | undefined {
  const fragment = systemd.folders.fragmentOf(name);
  if (fragment === undefined) return `Unit file ${name} does not exist.`;
  if (fragment.text === undefined) return `Unit file ${fragment.path} is masked.`;
  if (/^\/run\/systemd\/(?:generator|transient)\//.test(fragment.path))
    return `Unit ${fragment.path} is transient or generated.`;
  const { install } = systemd.unit(name).settings;
  const wanting = install.find(
    ({ name: key, unit }) => key !== 'Alias' && key !== 'Also' && !/@\.[a-z]+$/.test(unit),
  );
  if (/@\.[a-z]+$/.test(name) && wanting !== undefined)
    return `Destination unit ${wanting.unit} is a non-template unit.`;
  return undefined;
}

const LINK_FOLDERS: Readonly<Record<string, string>> = {
  WantedBy: 'wants',
  RequiredBy: 'requires',
  UpheldBy: 'upholds',
};

/** The paths of the links that a section `[Install]` asks for. */
function linksOf(name: string, install: readonly { name: string; unit: string }[]): string[] {
  return install.flatMap(({ name: key, unit }) => {
    const folder = LINK_FOLDERS[key];
    if (folder !== undefined) return [`${OPERATOR_FOLDER}/${unit}.${folder}/${name}`];
    return key === 'Alias' ? [`${OPERATOR_FOLDER}/${unit}`] : [];
  });
}

/** A verb that polkit lets only root use. */
function asRoot(verb: Verb, failure?: string): Verb {
  return (context, units, options) => {
    if (context.isRoot) return verb(context, units, options);
    const text = `${failure ?? `Failed to change ${units.join(', ')}: `}Interactive authentication required.`;
    return refused(text);
  };
}

function ordering(type: Job['type']): Verb {
  return (context, units) => orders(type, context, units);
}

function* orders(type: Job['type'], { systemd }: SystemctlContext, units: readonly string[]): CommandSteps {
  const results: CommandResult[] = [];
  const begun: { unit: string; job: Job; warning: string }[] = [];
  for (const unit of units) {
    const warning = type !== 'stop' && systemd.needsReload(systemd.unit(unit)) ? changedOnDisk(unit) : '';
    const job = systemd.order(type, unit);
    if (typeof job === 'string') results.push(refusal(type, unit, systemd.unit(unit), job));
    else begun.push({ unit, job, warning });
  }
  for (const { unit, job, warning } of begun) {
    while (job.result === undefined) {
      yield LOOK_MS;
      systemd.runDue();
    }
    const { status, stderr = '' } = jobOutcome(unit, job.result);
    results.push({ status, stderr: `${warning}${stderr}` });
  }
  return together(results);
}

function changedOnDisk(unit: string): string {
  return `Warning: The unit file, source configuration file or drop-ins of ${unit} changed on disk. Run 'systemctl daemon-reload' to reload units.\n`;
}

function refusal(type: Job['type'], unit: string, { settings }: LoadedUnit, why: Refusal): CommandResult {
  const failed = `Failed to ${type} ${unit}:`;
  const seeLogs = `\nSee system logs and 'systemctl status ${unit}' for details.`;
  const missing = settings.load === 'loaded' ? (settings.needs[0] ?? unit) : unit;
  const texts: Readonly<Record<Refusal, string>> = {
    'not-found': `${failed} Unit ${missing} not found.`,
    'not-loaded': `${failed} Unit ${unit} not loaded.`,
    masked: `${failed} Unit ${unit} is masked.`,
    'bad-setting': `${failed} Unit ${unit} has a bad unit file setting.${seeLogs}`,
    error: `${failed} Unit ${unit} failed to load properly, please adjust/correct and reload service manager: Bad message${seeLogs}`,
    'no-instance': `${failed} Unit name ${unit} is missing the instance name.${seeLogs}`,
    'not-reloadable': `${failed} Job type reload is not applicable for unit ${unit}.`,
    'not-active': `${unit} is not active, cannot reload.`,
  };
  return refused(texts[why], STATUSES[why] ?? 1);
}

/** The exit statuses that are not 1. */
const STATUSES: Partial<Record<Refusal, number>> = { 'not-found': 5, 'not-loaded': 5, 'not-reloadable': 3 };

/** Of several units: all messages, and the last status that is not 0. */
function together(results: readonly CommandResult[]): CommandResult {
  return {
    status: results.findLast(({ status }) => status !== 0)?.status ?? 0,
    stderr: results.map(({ stderr = '' }) => stderr).join(''),
  };
}

function kindOf(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}
