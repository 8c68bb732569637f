import { readable } from '../../src/plugin.js';

/** journalctl's own lines between entries: `-- Boot ID --` (formerly `-- Reboot --`), `-- Logs begin at ... --`. */
const OWN_LINE = /^-- .* --$/;
/** Its hint, with the indented lines that continue it. */
const HINT = /^Hint: You are currently not seeing messages from .*\n?(?:[ \t]+.*\n?)*/gm;
/** The limits for lines from stderr in the result. */
const MAX_NOTES = 3;
const MAX_NOTE_CHARACTERS = 200;

/** What journalctl printed. */
export interface PrintedJournal {
  stdout: string;
  stderr: string;
  truncated: boolean;
}

/**
 * Puts the entries of `journalctl --reverse --output=short --all` in order, oldest first, as `readable` text. journalctl's
 * own lines are left out, since their position has no meaning in this order. Without entries, the text is those lines and
 * the first lines of stderr.
 *
 * When not all entries fit, the oldest are left out, and the first line of the text says so. The last entry in truncated
 * output is left out too, since it may be incomplete; only a single entry is shown as far as it goes.
 */
export function oldestFirst({ stdout, stderr, truncated }: PrintedJournal, maxBytes: number): string {
  const entries = entriesOf(stdout);
  if (entries.length === 0) {
    const notes = notesOf(stderr);
    return notes === '' ? readable(stdout) : `${readable(stdout)}[journalctl: ${notes}]\n`;
  }
  const complete = truncated && entries.length > 1 ? entries.slice(0, -1) : entries;
  const fitting = newestThatFit(complete, maxBytes);
  const isWhole = !truncated && fitting.length === complete.length;
  const mark = isWhole ? [] : [markOf(truncated && fills(stderr, maxBytes), maxBytes)];
  return [...mark, ...fitting.toReversed()].map((entry) => `${entry}\n`).join('');
}

/** Whether the output has an entry, whole or not. */
export function hasEntries({ stdout }: Pick<PrintedJournal, 'stdout'>): boolean {
  return entriesOf(stdout).length > 0;
}

/**
 * The first lines of stderr as one readable line, without the hint about permissions; empty when there are none. journalctl
 * writes there which journal files it ignores.
 */
export function notesOf(stderr: string): string {
  const lines = stderr
    .replace(HINT, '')
    .split('\n')
    .map((line) => readable(line).trim().slice(0, MAX_NOTE_CHARACTERS))
    .filter((line) => line !== '');
  const more = lines.length > MAX_NOTES ? [`(and ${lines.length - MAX_NOTES} more lines)`] : [];
  return [...lines.slice(0, MAX_NOTES), ...more].join(' ');
}

/** @param byStderr whether journalctl was stopped for what it wrote to stderr */
function markOf(byStderr: boolean, maxBytes: number): string {
  return byStderr
    ? `[older lines may be missing: journalctl was stopped, because it wrote more than ${maxBytes} bytes to stderr]`
    : `[older lines are left out: there are more than ${maxBytes} bytes]`;
}

/** Whether output can be all that the limit allows: an incomplete character at its end, of at most 3 bytes, is left out. */
function fills(output: string, maxBytes: number): boolean {
  return Buffer.byteLength(output) >= maxBytes - 3;
}

function entriesOf(stdout: string): string[] {
  // Continuation lines of an entry are indented.
  const parts = stdout.replace(/\n$/, '').split(/\n(?=\S)/);
  return parts.filter((entry) => entry !== '' && !OWN_LINE.test(entry));
}

/** The first entries, as far as they fit, as readable text; of the very first one at least its beginning. */
function newestThatFit(entries: readonly string[], maxBytes: number): string[] {
  const fitting: string[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const text = readable(entry);
    bytes += Buffer.byteLength(text) + 1;
    if (bytes > maxBytes) return fitting.length === 0 ? [beginningOf(text, maxBytes)] : fitting;
    fitting.push(text);
  }
  return fitting;
}

function beginningOf(text: string, maxBytes: number): string {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  // With `stream`, an incomplete character at the end is left out.
  return decoder.decode(Buffer.from(text).subarray(0, maxBytes), { stream: true });
}
