import { randomBytes } from 'node:crypto';
import { ActionError } from './action-error.js';
import type { Cancellable } from './cancellable.js';
import { journalRightsMissing, mayNotReadJournal } from './journal-rights.js';
import { readable, readableLine } from './readable-text.js';
import type { RemoteShell } from './remote-shell.js';
import { wholeSections } from './sections.js';
import { shownNumber, shownPaths, shownProperties } from './shown-properties.js';
import {
  INSPECTION_SCRIPT,
  INSPECTION_SECTIONS,
  type InspectedProperty,
  type InspectionSection,
} from './unit-inspection-script.js';

/** What systemd says of a unit on one machine; null: it does not say, or has forgotten it. */
export interface InspectedUnit {
  /** `loaded`, `not-found`, `masked`, `bad-setting`, `error`. */
  load: string | null;
  /** `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`. */
  active: string | null;
  /** Such as `running`, `dead`, `exited`, `auto-restart`. */
  sub: string | null;
  /** Since when it is so, in ISO 8601, by the clock of the machine. */
  since: string | null;
  main_pid: number | null;
  memory_bytes: number | null;
  tasks: number | null;
  /** How often systemd has restarted it by itself since somebody started it. */
  restarts: number | null;
  /** How it ended last, or `success` while it has not: `exit-code`, `signal`, `timeout`, `oom-kill` and others. */
  result: string | null;
  /** With which status its main process has exited; null also when a signal ended it. */
  exit_status: number | null;
  /** The number of the signal that ended its main process. */
  exit_signal: number | null;
  /** Another one for each start: 32 hexadecimal digits. */
  invocation_id: string | null;
  /** `enabled`, `disabled`, `static`, `generated`, `masked` and others. */
  enabled: string | null;
  /** Whether its file has changed since systemd read it. */
  needs_daemon_reload: boolean | null;
  can_reload: boolean | null;
  fragment_path: string | null;
  drop_ins: string[] | null;
  /** The last lines of its log, oldest first, as journalctl prints them and `readable`; null: it could not be read. */
  log: string[] | null;
}

export interface InspectOptions extends Cancellable {
  /** How many entries of the log to read; with 0 none. */
  lines: number;
  /** How many bytes of these, the newest. */
  logBytes: number;
  /** The time limit on the machine, in milliseconds, without the time to connect. */
  timeoutMs: number;
}

/** The most that is read besides the log, in bytes: paths of drop-ins, mostly. */
const MAX_PROPERTIES_BYTES = 128 * 1024;
/** How much of what a program says is quoted. */
const MAX_SAID = 300;

/**
 * Asks a machine about one unit, with one command.
 * @param unit a valid name, not that of a template
 * @returns what it says, also when only its log cannot be read; `problem` says why, `journal_forbidden` also when lines may be missing
 * @throws ActionError as `RemoteShell.run` does, and `command_failed` when systemd says nothing of the unit
 */
export async function inspectUnit(
  shell: RemoteShell,
  host: string,
  unit: string,
  { lines, logBytes, timeoutMs, signal }: InspectOptions,
): Promise<{ unit: InspectedUnit; problem: ActionError | undefined }> {
  const mark = randomBytes(16).toString('hex');
  const argv = ['sh', '-c', INSPECTION_SCRIPT, 'sh', mark, unit, String(lines), String(logBytes)] as const;
  const { stdout, failure } = await shell.run(host, [...argv], {
    signal,
    timeoutMs,
    maxOutputBytes: logBytes + MAX_PROPERTIES_BYTES,
    anyExitStatus: true,
    partial: true,
  });
  // What comes after the last mark may be cut off.
  const { sections: parts } = wholeSections(stdout, mark, INSPECTION_SECTIONS);
  const properties = shownProperties(parts.unit ?? '');
  if (!properties.has('LoadState')) throw failure ?? saysNothing(host, parts.unit ?? '');
  const { log, problem } = logOf(parts, { host, logBytes, failure });
  return { unit: { ...unitOf(properties), log }, problem };
}

function saysNothing(host: string, said: string): ActionError {
  const text = readableLine(said.trim()).slice(0, MAX_SAID);
  return new ActionError('command_failed', `systemctl on ${host} says nothing of the unit: ${text}`, {
    details: { host },
  });
}

type Properties = ReturnType<typeof shownProperties>;

function unitOf(properties: Properties): Omit<InspectedUnit, 'log'> {
  const text = (name: InspectedProperty) => properties.get(name) || null;
  const count = (name: InspectedProperty) => shownNumber(properties.get(name));
  // systemd forgets a unit that has stopped and that nothing needs: then it says of the past what is true of a unit that never ran.
  const isForgotten = !STATE_TIMES.some((name) => text(name) !== null);
  const past = <Value>(value: Value) => (isForgotten ? null : value);
  const code = count('ExecMainCode');
  return {
    load: text('LoadState'),
    active: text('ActiveState'),
    sub: text('SubState'),
    since: sinceOf(properties),
    main_pid: count('MainPID') || null,
    memory_bytes: count('MemoryCurrent'),
    tasks: count('TasksCurrent'),
    restarts: past(count('NRestarts')),
    result: past(text('Result')),
    exit_status: code === EXITED ? count('ExecMainStatus') : null,
    exit_signal: code === KILLED || code === DUMPED ? count('ExecMainStatus') : null,
    invocation_id: text('InvocationID'),
    enabled: text('UnitFileState'),
    needs_daemon_reload: truthOf(properties.get('NeedDaemonReload')),
    can_reload: truthOf(properties.get('CanReload')),
    fragment_path: text('FragmentPath'),
    drop_ins: shownPaths(properties.get('DropInPaths')),
  };
}

// CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid(2).
const EXITED = 1;
const KILLED = 2;
const DUMPED = 3;

const STATE_TIMES = [
  'ActiveEnterTimestamp',
  'ActiveExitTimestamp',
  'InactiveEnterTimestamp',
  'InactiveExitTimestamp',
] as const;

function truthOf(text: string | undefined): boolean | null {
  return text === 'yes' ? true : text === 'no' ? false : null;
}

/** Since when a unit is in its state: the time that `systemctl status` shows. */
function sinceOf(properties: Properties): string | null {
  switch (properties.get('ActiveState')) {
    case 'active':
    case 'reloading':
    case 'refreshing':
      return timeOf(properties.get('ActiveEnterTimestamp'));
    case 'inactive':
    case 'failed':
      return timeOf(properties.get('InactiveEnterTimestamp'));
    case 'activating':
      return timeOf(properties.get('InactiveExitTimestamp'));
    default:
      return timeOf(properties.get('ActiveExitTimestamp'));
  }
}

function timeOf(text = ''): string | null {
  const [, date, time] = /^\w+ (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? UTC$/.exec(text) ?? [];
  const at = Date.parse(`${date}T${time}Z`);
  return Number.isNaN(at) ? null : new Date(at).toISOString();
}

interface ReadLog {
  log: string[] | null;
  problem: ActionError | undefined;
}

/** journalctl's own lines between entries: `-- Boot ID --` (formerly `-- Reboot --`), `-- No entries --`. */
const OWN_LINE = /^-- .* --$/;

function logOf(
  { log, said }: Partial<Record<InspectionSection, string>>,
  { host, logBytes, failure }: { host: string; logBytes: number; failure: ActionError | undefined },
): ReadLog {
  if (log === undefined || said === undefined)
    return { log: null, problem: failure ?? incomplete(host, 'its answer was cut off') };
  // Of what was cut to its last bytes the first line may be incomplete.
  const whole = Buffer.byteLength(log) < logBytes ? log : log.slice(log.indexOf('\n') + 1);
  const lines = whole
    .split('\n')
    .filter((line) => line !== '' && !OWN_LINE.test(line))
    .map(readable);
  const problem = problemOf(host, said, lines.length > 0);
  const isLost = problem !== undefined && lines.length === 0;
  return { log: isLost ? null : lines, problem };
}

/** Why lines may be missing, by what journalctl wrote to stderr. */
function problemOf(host: string, said: string, hasLines: boolean): ActionError | undefined {
  if (mayNotReadJournal(said))
    return new ActionError('journal_forbidden', journalRightsMissing(host, hasLines ? 'some of ' : ''));
  const at = said.lastIndexOf('status=');
  const status = at < 0 ? '0' : said.slice(at + 'status='.length).trim();
  const notes = (at < 0 ? said : said.slice(0, at)).trim();
  if (status === '0' && notes === '') return undefined;
  const how = status === '0' ? '' : ` (exit status ${status})`;
  return incomplete(host, `journalctl says${how}: ${readableLine(notes).slice(0, MAX_SAID)}`);
}

function incomplete(host: string, why: string): ActionError {
  return new ActionError('log_incomplete', `Lines of the log of ${host} may be missing: ${why}`);
}
