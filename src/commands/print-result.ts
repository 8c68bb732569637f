import type { JsonSchema } from '../core/json-schema.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { printableLines } from '../lib/printable.js';
import { formatReply } from './format-reply.js';
import { printError, printUnchanged } from './output.js';
import type { OutputFormat } from './output-options.js';
import type { ResultStyle } from './table/result-text.js';

export interface ResultOutput {
  format: OutputFormat;
  /** Print a string as it is, whatever the format. */
  raw: boolean;
  /** Whether standard output is a terminal. */
  terminal: boolean;
  style: ResultStyle;
}

/** Prints the result of an action. @param schema that of the result; undefined: it is not known */
export async function printResult(
  value: unknown,
  schema: JsonSchema | undefined,
  { format, raw, terminal, style }: ResultOutput,
): Promise<void> {
  if (typeof value === 'string' && raw) printUnchanged(formatReply(value, { raw, terminal }));
  else if (format === 'table') {
    const { resultText } = await import('./table/result-text.js');
    const text = resultText(value, schema, style);
    if (isEmpty(value)) printError(`the result is an empty ${Array.isArray(value) ? 'list' : 'map'}\n`);
    printUnchanged(text);
  } else printUnchanged(await formatted(value, format));
}

/** A value in a format for programs. Nothing in it can control a terminal, and it keeps its value. */
export async function formatted(value: unknown, format: Exclude<OutputFormat, 'table'>): Promise<string> {
  if (format === 'json') return formatReply(value, { raw: false, terminal: false });
  if (format === 'yaml') return (await import('./yaml-text.js')).yamlText(value);
  const lines: unknown[] = Array.isArray(value) ? value : [value];
  return lines.map((each) => `${printableLines(stringifyExactly(each))}\n`).join('');
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
