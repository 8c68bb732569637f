import { errorCodeInfo } from '../api/error-codes.js';
import { errorBodyOf } from '../client/error-body.js';
import { fieldsOf } from '../lib/fields-of.js';
import { onOneLine, printError, printUnchanged } from './output.js';
import { formatted } from './print-result.js';
import type { OutputFormat } from './output-options.js';
import { terminalOf } from './table/terminal.js';

/** Exit codes. They say whether the service or the caller caused the error. */
export const EXIT = { done: 0, service: 1, caller: 2, interrupted: 130 } as const;

/** Details that the sentences before already tell. */
const TOLD: ReadonlySet<string> = new Set(['warnings', 'fields', 'actions']);
const MOST_DETAILS = 20;

/**
 * Prints an error reply, once for each reader: a sentence on standard error, and for programs the body on standard output.
 * @returns the exit code
 */
export async function printFailure(body: unknown, format: OutputFormat): Promise<number> {
  if (format !== 'table') printUnchanged(await formatted(body, format));
  const code = printSentence(body);
  if (format === 'table') await printDetails(body);
  return code;
}

/** Prints an error of a call without a reply. @returns the exit code */
export function printSentence(body: unknown): number {
  // The original FleetManager sends no code.
  const { code = 'internal', errors } = errorBodyOf(body);
  const message = errors.length > 0 ? errors.map(onOneLine).join('; ') : 'the reply gives no reason';
  const remedy = remedyOf(code, body);
  printError(`${code}: ${message}\n${remedy === undefined ? '' : `-> ${remedy}\n`}`);
  return errorCodeInfo(code).fault === 'caller' ? EXIT.caller : EXIT.service;
}

/** How to correct the command line; undefined: the message says enough. */
function remedyOf(code: string, body: unknown): string | undefined {
  const { fields, actions } = fieldsOf(fieldsOf(body).details);
  const wrong = Array.isArray(fields) ? fields.map((each) => String(fieldsOf(each).field)) : [];
  if (wrong.includes('request_body.etcd_token'))
    return 'give the etcd token of the cluster, or its name: in FLEET_MANAGER_CLUSTER, or by --cluster TOKEN';
  // One that has a value, though a wrong one, was given in the right way.
  if (code === 'invalid_parameters' && /\brequired\b/.test(errorBodyOf(body).errors.join(' ')))
    return 'give one parameter as --param NAME=VALUE, or all parameters as --params JSON';
  if (code === 'unknown_action' && Array.isArray(actions))
    return `the actions of the service are ${actions.join(', ')}`;
  return undefined;
}

async function printDetails(body: unknown): Promise<void> {
  const { details, traceId } = errorBodyOf(body);
  const untold = Object.entries(fieldsOf(details)).filter(([name]) => !TOLD.has(name));
  const shown = { ...Object.fromEntries(untold), ...(traceId !== undefined && { trace_id: traceId }) };
  if (Object.keys(shown).length === 0) return;
  const { resultText } = await import('./table/result-text.js');
  const { width } = terminalOf(process.stderr, {});
  const style = { width: width && width - 2, colours: false, headers: true, columns: undefined };
  // An object, also where its values are objects.
  const lines = resultText(shown, { type: 'object' }, style).trimEnd().split('\n');
  for (const line of lines.slice(0, MOST_DETAILS)) printError(`  ${line}\n`);
  if (lines.length > MOST_DETAILS) printError('  ...\n');
}
