import { ActionError } from '../api/action-error.js';

/**
 * Quotes an argument vector as one line that a POSIX shell parses into exactly these words (POSIX.1-2017, Shell Command
 * Language, 2.2.2 Single-Quotes). This is the only place where text becomes part of a shell command.
 *
 * Throws `invalid_parameters` for an argument with a NUL character, or with text that is not well-formed Unicode.
 */
export function quoteArgv(argv: readonly string[]): string {
  return argv.map(quoteWord).join(' ');
}

function quoteWord(word: string): string {
  if (word.includes('\0')) {
    throw new ActionError('invalid_parameters', 'an argument of a command cannot contain a NUL character');
  }
  // A lone surrogate would be sent as U+FFFD, so the host would get another argument than the checked one.
  if (Buffer.from(word, 'utf8').toString('utf8') !== word) {
    throw new ActionError('invalid_parameters', 'an argument of a command is not well-formed Unicode');
  }
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
