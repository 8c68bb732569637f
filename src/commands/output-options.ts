import { InvalidArgumentError, Option } from 'commander';
import { terminalOf } from './table/terminal.js';
import type { TableStyle } from './table/table.js';
import { UsageError } from './usage-error.js';

/** What a result can be printed as. */
export type OutputFormat = 'table' | 'json' | 'ndjson' | 'yaml';

/** The options of a command that prints a table. */
export interface OutputOptions {
  output?: OutputFormat;
  /** The older form of `--output json`, or what the command has in its place. */
  json?: boolean;
  columns?: string[];
  /** False: no line of titles. */
  headers?: boolean;
}

/** @param formats the first one is that of a terminal */
export function outputOption(formats: readonly OutputFormat[]): Option {
  return new Option('-o, --output <format>', 'the format; on a terminal by default a table').choices(formats);
}

export function columnsOption(): Option {
  return new Option('--columns <names>', 'only these columns of the table, separated by commas').argParser(
    names,
  );
}

export function headersOption(): Option {
  return new Option('--no-headers', 'print the table without its line of titles');
}

/**
 * The format to print in. Options that are for tables ask for a table.
 * @param standard without any option
 * @param ofJson what `--json` stands for
 * @throws UsageError
 */
export function formatOf(
  { output, json = false, columns, headers = true }: OutputOptions,
  standard: OutputFormat,
  ofJson: OutputFormat = 'json',
): OutputFormat {
  if (json && output !== undefined) throw new UsageError(`--json is --output ${ofJson}: give one of them`);
  const given = json ? ofJson : output;
  const asTable = columns === undefined ? (headers ? undefined : '--no-headers') : '--columns';
  if (asTable === undefined) return given ?? standard;
  if (given !== undefined && given !== 'table')
    throw new UsageError(
      `${asTable} is for a table: leave it or ${json ? '--json' : `--output ${given}`} out`,
    );
  return 'table';
}

/** How a table is printed to standard output. */
export function tableStyle(
  { headers = true }: Pick<OutputOptions, 'headers'>,
  env: Readonly<Record<string, string | undefined>>,
): TableStyle {
  const { width, colours } = terminalOf(process.stdout, env);
  return { width, colours, headers };
}

function names(text: string): string[] {
  const list = text.split(',').map((each) => each.trim());
  if (list.includes('')) throw new InvalidArgumentError('it must be names, separated by commas.');
  return list;
}
