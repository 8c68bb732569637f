/** journalctl's own lines between entries: `-- Boot ID --` (formerly `-- Reboot --`), `-- Logs begin at ... --`. */
const OWN_LINE = /^-- .* --$/;
/** The limits for lines from stderr in the result. */
const MAX_NOTES = 3;
const MAX_NOTE_CHARACTERS = 200;

/**
 * Puts the entries of `journalctl --reverse --output=short` in order, oldest first. journalctl's own lines are left out,
 * since their position has no meaning in this order. Without entries, the text is those lines and the first lines of
 * stderr, which may say that the login user may not read the journal.
 *
 * In truncated output the oldest entries are missing, and the first line of the text says so. The last entry in the
 * output is dropped, since it may be incomplete.
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
    .map((line) => line.trim().slice(0, MAX_NOTE_CHARACTERS))
    .filter((line) => line !== '');
  return lines.length === 0 ? '' : `[journalctl: ${lines.slice(0, MAX_NOTES).join(' ')}]\n`;
}
