import { stringifyExactly } from '../lib/exact-json.js';

/**
 * An answer as it is printed: JSON, so that programs can read it; a text as it is where a person reads it, or asks for it.
 * @param terminal whether it goes to one
 */
export function shownAnswer(body: unknown, { raw, terminal }: { raw: boolean; terminal: boolean }): string {
  if (typeof body !== 'string' || !(raw || terminal)) return `${stringifyExactly(body, 2)}\n`;
  // What a unit has logged could otherwise steer the terminal.
  const text = terminal ? body.replace(/[^\P{Cc}\n\t]/gu, '\u{fffd}') : body;
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
