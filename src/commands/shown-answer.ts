import { stringifyExactly } from '../lib/exact-json.js';

/**
 * A result as it is printed: JSON for programs; a text as it is on a terminal, or when that is wanted.
 * @param terminal whether the output is a terminal
 */
export function shownAnswer(body: unknown, { raw, terminal }: { raw: boolean; terminal: boolean }): string {
  if (typeof body !== 'string' || !(raw || terminal)) return `${stringifyExactly(body, 2)}\n`;
  // Text of a unit's log could otherwise control the terminal.
  const text = terminal ? body.replace(/[^\P{Cc}\n\t]/gu, '\u{fffd}') : body;
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
