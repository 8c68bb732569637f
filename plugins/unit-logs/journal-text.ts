/** journalctl's own lines between entries: `-- Boot ID --` (earlier `-- Reboot --`), `-- Logs begin at ... --`. */
const OWN_LINE = /^-- .* --$/;
/** The limit of its error output, which may be long. */
const MOST_NOTES = 3;
const MOST_NOTE_CHARACTERS = 200;

/**
 * The entries that journalctl printed newest first (`--reverse --output=short`), oldest first. Its own lines are left out,
 * because they describe the lines around them; without entries they are the text, together with the error output: for
 * example that the login user may not read the journal.
 *
 * A cut output lacks the oldest entries, which the first line says. The last entry that arrived is dropped, because a part
 * of it may be missing.
 */
export function oldestFirst(printed: {
  stdout: string;
  stderr: string;
  truncated: boolean;
  maxBytes: number;
}): string {
  const { stdout, stderr, truncated, maxBytes } = printed;
  // Continuation lines of an entry are indented.
  const all = stdout.replace(/\n$/, '').split(/\n(?=\S)/);
  const entries = (truncated ? all.slice(0, -1) : all).filter(
    (entry) => entry !== '' && !OWN_LINE.test(entry),
  );
  if (entries.length === 0 && !truncated) return `${stdout}${notes(stderr)}`;
  const mark = truncated ? [`[older lines are left out: there are more than ${maxBytes} bytes]`] : [];
  return [...mark, ...entries.toReversed()].map((entry) => `${entry}\n`).join('');
}

function notes(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim().slice(0, MOST_NOTE_CHARACTERS))
    .filter((line) => line !== '');
  return lines.length === 0 ? '' : `[journalctl: ${lines.slice(0, MOST_NOTES).join(' ')}]\n`;
}
