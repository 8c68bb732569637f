import { stringifyExactly } from '../lib/exact-json.js';

/**
 * Formats the body of a reply for printing. The format is JSON, so that programs can read it. A string is printed unchanged
 * on a terminal or when `raw` is set.
 * @param terminal whether the output goes to a terminal
 */
export function formatReply(body: unknown, { raw, terminal }: { raw: boolean; terminal: boolean }): string {
  if (typeof body !== 'string' || !(raw || terminal)) return `${stringifyExactly(body, 2)}\n`;
  // Control characters in the log of a unit could otherwise control the terminal.
  const text = terminal ? body.replace(/[^\P{Cc}\n\t]/gu, '\u{fffd}') : body;
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
