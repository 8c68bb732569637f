import type { UnitOption } from '../../api/fleet-transport.js';
import { systemdBoolean } from '../../api/unit-booleans.js';
import { unitFileOptions } from '../../api/unit-file-options.js';
import { programOf, type SimulatedProgram } from './simulated-program.js';
import type { UnitFragment } from './unit-folders.js';

/** What the simulation reads of a unit file. */
export interface UnitSettings {
  load: 'loaded' | 'not-found' | 'masked' | 'bad-setting' | 'error';
  options: readonly UnitOption[];
  /** With the specifiers replaced; undefined: the file has none. */
  description: string | undefined;
  /** Of a service, such as `simple`; empty for other units. */
  type: string;
  remainsAfterExit: boolean;
  program: SimulatedProgram;
  /** What `ExecReload=` does; undefined: the unit cannot be reloaded. */
  reload: SimulatedProgram | undefined;
  restart: string;
  restartMs: number;
  timeoutStartMs: number;
  /** More starts than this within the time are refused. */
  startLimit: { count: number; withinMs: number };
  /** The units without which it does not start. */
  needs: readonly string[];
  after: readonly string[];
  wants: readonly string[];
  /** All units that the file names: systemd keeps them loaded. */
  names: readonly string[];
  conditions: readonly UnitCondition[];
  install: readonly { name: string; unit: string }[];
}

/** A line such as `ConditionPathExists=/no/such`. */
export interface UnitCondition {
  name: string;
  value: string;
  isAssert: boolean;
}

/** Directives whose values are names of units. */
const NAMING = [
  'Requires',
  'Requisite',
  'BindsTo',
  'Wants',
  'PartOf',
  'Upholds',
  'Conflicts',
  'Before',
  'After',
  'OnFailure',
  'OnSuccess',
];
const INSTALLING = ['WantedBy', 'RequiredBy', 'UpheldBy', 'Alias', 'Also'];

export function unitSettings(name: string, fragment: UnitFragment | undefined): UnitSettings {
  const text = fragment?.text ?? '';
  const options = unitFileOptions(text);
  const kind = name.slice(name.lastIndexOf('.') + 1);
  const values = (section: string, key: string) => {
    const list: string[] = [];
    for (const option of options) {
      if (option.section !== section || option.name !== key) continue;
      // An empty value clears what was before.
      if (option.value === '') list.length = 0;
      else list.push(option.value);
    }
    return list;
  };
  const last = (section: string, key: string) => values(section, key).at(-1);
  const units = (key: string) => values('Unit', key).flatMap((value) => value.split(/\s+/));
  const starts = values('Service', 'ExecStart').filter(isCommand);
  const type =
    kind === 'service' ? (last('Service', 'Type') ?? (starts.length > 0 ? 'simple' : 'oneshot')) : '';
  const isOneshot = type === 'oneshot';
  const reload = last('Service', 'ExecReload');
  const activated = values(kind === 'timer' ? 'Timer' : kind === 'path' ? 'Path' : 'Socket', 'Unit');
  const implied = ['timer', 'path', 'socket'].includes(kind) ? [name.replace(/\.\w+$/, '.service')] : [];
  return {
    load: loadState(fragment, text, { name, kind, type, starts }),
    options,
    description: last('Unit', 'Description')?.replace(/%[nNipj%]/g, (specifier) =>
      specifierOf(name, specifier),
    ),
    type: fragment?.text === undefined ? '' : type,
    remainsAfterExit: systemdBoolean(options, 'Service', 'RemainAfterExit'),
    program: whole(starts.map((line) => programOf(line, { isOneshot }))),
    reload: reload === undefined ? undefined : programOf(reload, { isOneshot: true }),
    restart: last('Service', 'Restart') ?? 'no',
    restartMs: timeSpan(last('Service', 'RestartSec')) ?? 100,
    timeoutStartMs:
      timeSpan(last('Service', 'TimeoutStartSec')) || (isOneshot ? Number.POSITIVE_INFINITY : 90_000),
    startLimit: {
      count: Number(last('Unit', 'StartLimitBurst') ?? 5),
      withinMs: timeSpan(last('Unit', 'StartLimitIntervalSec')) ?? 10_000,
    },
    needs: ['Requires', 'Requisite', 'BindsTo'].flatMap(units),
    after: units('After'),
    wants: units('Wants'),
    names: [...NAMING.flatMap(units), ...(activated.length > 0 ? activated : implied)],
    conditions: options.flatMap(({ section, name: key, value }) =>
      section === 'Unit' && /^(?:Condition|Assert)PathExists$/.test(key)
        ? [{ name: key, value, isAssert: key.startsWith('Assert') }]
        : [],
    ),
    install: INSTALLING.flatMap((key) =>
      values('Install', key).flatMap((value) => value.split(/\s+/).map((unit) => ({ name: key, unit }))),
    ),
  };
}

/** What systemd makes itself. */
const WITHOUT_FILE: ReadonlySet<string> = new Set(['-.mount', 'init.scope']);

function loadState(
  fragment: UnitFragment | undefined,
  text: string,
  { name, kind, type, starts }: { name: string; kind: string; type: string; starts: readonly string[] },
): UnitSettings['load'] {
  if (fragment === undefined) return WITHOUT_FILE.has(name) ? 'loaded' : 'not-found';
  if (fragment.text === undefined) return 'masked';
  // systemd refuses the whole file for a section whose bracket is not closed.
  if (text.split('\n').some((line) => /^\[[^\]]*$/.test(line.trim()))) return 'error';
  if (kind !== 'service') return 'loaded';
  const isIncomplete = starts.length === 0 && !/^ExecStop=|^SuccessAction=/m.test(text);
  return isIncomplete || (starts.length > 1 && type !== 'oneshot') ? 'bad-setting' : 'loaded';
}

/** Whether systemd accepts a command: neither empty, nor a relative path. */
function isCommand(line: string): boolean {
  const path = line.replace(/^[-@:+!]+/, '').split(/\s/, 1)[0] ?? '';
  return path.startsWith('/') || (path !== '' && !path.includes('/'));
}

/** One program that does what these do one after the other. */
function whole(programs: readonly SimulatedProgram[]): SimulatedProgram {
  let runsMs = 0;
  for (const program of programs) {
    runsMs += program.runsMs;
    if (program.status !== 0 || programs.length === 1) return { ...program, runsMs };
  }
  return { runsMs, status: 0, isReady: true };
}

function specifierOf(name: string, specifier: string): string {
  const prefix = name.slice(0, name.lastIndexOf('.'));
  const at = prefix.indexOf('@');
  const before = at < 0 ? prefix : prefix.slice(0, at);
  const values: Readonly<Record<string, string>> = {
    '%n': name,
    '%N': prefix,
    '%p': before,
    '%j': before.slice(before.lastIndexOf('-') + 1),
    '%i': at < 0 ? '' : prefix.slice(at + 1),
    '%%': '%',
  };
  return values[specifier] ?? specifier;
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  '': 1_000,
  s: 1_000,
  sec: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
};

/** A time span such as `90`, `1min 30s`, `500ms` (systemd.time(7)), in milliseconds; undefined: it is none. */
function timeSpan(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (text === 'infinity') return Number.POSITIVE_INFINITY;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/g)];
  if (parts.length === 0) return undefined;
  return parts.reduce((sum, [, count = '0', unit = '']) => sum + Number(count) * (UNIT_MS[unit] ?? 1_000), 0);
}
