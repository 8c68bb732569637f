import {
  ActionError,
  journalRightsMissing,
  mayNotReadJournal,
  readableLine,
  type RemoteOutput,
  type RemoteShell,
} from '../../src/plugin.js';
import { stderrOf } from './failed-command.js';
import { hasEntries, notesOf, oldestFirst } from './journal-text.js';
import { refusedTime } from './journal-time.js';

export interface JournalQuery {
  unit_name: string;
  lines: number;
  since?: string;
  until?: string;
  /** The limit for the output, in bytes. */
  maxBytes: number;
}

/** What the journal of one machine has. */
export interface MachineJournal {
  /** The lines, after a first line for each gap. */
  text: string;
  /** Why lines may be missing. A limit of the size is none of these: it is what the caller asked for. */
  gaps: readonly string[];
}

/**
 * Reads the journal of one machine.
 * @throws ActionError as `RemoteShell.run` does; `command_failed` also when no line of the journal could be read, and
 *   `invalid_parameters` for times that journalctl refuses
 */
export async function journalOf(
  host: string,
  query: JournalQuery,
  { shell, signal, timeoutMs }: { shell: RemoteShell; signal: AbortSignal; timeoutMs: number },
): Promise<MachineJournal> {
  const options = { signal, timeoutMs, maxOutputBytes: query.maxBytes, partial: true };
  try {
    const printed = await shell.run(host, journalctl(query), options);
    if (mayNotReadJournal(printed.stderr) && !hasEntries(printed)) throw journalForbidden(host);
    if (printed.truncated && !hasEntries(printed)) throw nothingRead(host, query.maxBytes, printed.stderr);
    return readJournal(host, printed, query.maxBytes);
  } catch (error) {
    if (mayNotReadJournal(stderrOf(error))) throw journalForbidden(host, error);
    throw refusedTime(error, query) ?? error;
  }
}

function readJournal(host: string, { failure, ...printed }: RemoteOutput, maxBytes: number): MachineJournal {
  const notes = notesOf(printed.stderr);
  const gaps = [
    ...(mayNotReadJournal(printed.stderr) ? [journalRightsMissing(host, 'some of ')] : []),
    ...(notes === '' ? [] : [`journalctl on ${host}: ${notes}`]),
  ];
  // Without entries, there are no lines before which a gap could be shown.
  if (failure === undefined && !hasEntries(printed)) return { text: oldestFirst(printed, maxBytes), gaps };
  const marks = gaps.map((gap) => `[lines may be missing: ${gap}]\n`);
  if (failure === undefined) return { text: `${marks.join('')}${oldestFirst(printed, maxBytes)}`, gaps };
  // Of what journalctl printed before its time limit the last line may be incomplete.
  const stdout = printed.stdout.slice(0, printed.stdout.lastIndexOf('\n') + 1);
  if (stdout === '') throw failure;
  const late = readableLine(failure.message);
  marks.push(`[older lines may be missing: ${late}]\n`);
  return { text: `${marks.join('')}${oldestFirst({ ...printed, stdout }, maxBytes)}`, gaps: [...gaps, late] };
}

function journalForbidden(host: string, cause?: unknown): ActionError {
  return new ActionError('command_failed', journalRightsMissing(host), {
    details: { host, reason: 'journal_forbidden' },
    cause,
  });
}

/** journalctl was stopped before it printed an entry, so it is not known whether the journal has any. */
function nothingRead(host: string, maxBytes: number, stderr: string): ActionError {
  const said = readableLine(stderr.trimStart().split('\n', 1)[0] ?? '').slice(0, 200);
  const reason = said === '' ? '' : `: ${said}`;
  const message = `journalctl on ${host} was stopped: it wrote more than ${maxBytes} bytes, and no line of the journal${reason}`;
  return new ActionError('command_failed', message, { details: { host, reason: 'no_journal_lines' } });
}

function journalctl({ unit_name: unit, lines, since, until }: JournalQuery): [string, ...string[]] {
  // Each option is one word: a unit's name may begin with a dash (-.mount), and so may a time (-2h).
  return [
    'journalctl',
    `--unit=${unit}`,
    '--no-pager',
    `--lines=${lines}`,
    '--output=short',
    // Else a message with a character that is not printable is shown as `[19B blob data]`.
    '--all',
    // Without --reverse, journalctl prints the first lines after `since`, and none when the last lines are after `until`.
    // If the output is truncated, the newest lines would be lost.
    '--reverse',
    ...(since === undefined ? [] : [`--since=${since}`]),
    ...(until === undefined ? [] : [`--until=${until}`]),
  ];
}
