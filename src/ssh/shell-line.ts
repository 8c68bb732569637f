import { quoteArgv } from './quoting.js';

/**
 * Runs its `$1`, a script for a POSIX shell in the encoding of `printf %b`. It has none of the characters that some login
 * shell reads in single quotes: `!` and newlines in csh, backslashes in fish. Not its `$0`, which a shell names in its errors.
 */
const RUN_ENCODED = 'eval "$(printf %b "$1")"';

/**
 * The line that makes a login shell run a script with `sh`. Every login shell that has single quotes and `exec` reads the
 * line in the same way, POSIX shells as well as fish and csh: it is one line of ASCII, quoted, without the characters that
 * those read differently.
 *
 * @param prefix a program that runs `sh`, with its arguments, such as `sudo -n --`
 * @param script must not contain a NUL character; it has at most five times as many bytes in the line
 */
export function shellLine(prefix: readonly string[], script: string): string {
  return `exec ${quoteArgv([...prefix, 'sh', '-c', RUN_ENCODED, 'sh', encoded(script)])}`;
}

/** The script in a line of `shellLine`; undefined for any other text. */
export function scriptInShellLine(prefix: readonly string[], line: string): string | undefined {
  const words = [...line.matchAll(/'([^']*)'/g)].map(([, word]) => word);
  const script = decoded(words.at(-1) ?? '');
  return shellLine(prefix, script) === line ? script : undefined;
}

/** As `printf %b` decodes it: `\0NNN` is the byte with this octal number. */
function encoded(script: string): string {
  return script.replace(/[^\x20-\x7e]|['\\!]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`).join(''),
  );
}

function decoded(text: string): string {
  const bytes = text.replace(/\\0([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
