import { stringifyExactly } from '../lib/exact-json.js';
import { printableLines } from '../lib/printable.js';

/**
 * Formats the body of a reply for printing. The format is JSON, so that programs can read it. A string is printed as text
 * on a terminal or when `raw` is set. Only into a file or a pipe, with `raw`, is it unchanged: everywhere else, what could
 * control a terminal, such as control characters in the log of a unit, is escaped.
 * @param terminal whether the output goes to a terminal
 */
export function formatReply(body: unknown, { raw, terminal }: { raw: boolean; terminal: boolean }): string {
  if (typeof body !== 'string' || !(raw || terminal)) return printableLines(`${stringifyExactly(body, 2)}\n`);
  const text = terminal ? printableLines(body) : body;
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
