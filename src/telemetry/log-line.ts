import { shown, stackOf } from '../lib/errors.js';
import { printable } from '../lib/printable.js';

/** `json`: one JSON object per line. `text`: lines for people. */
export type LogFormat = 'json' | 'text';

/** The fields of a line. Those that are named here come first. */
export interface LogLine {
  /** In ISO 8601, in UTC. */
  time?: unknown;
  level: string;
  message: unknown;
  [field: string]: unknown;
}

/** The line as text, without a line break. Never throws. */
export function formatLine(format: LogFormat, line: LogLine): string {
  return format === 'json' ? jsonLine(line) : textLine(line);
}

function jsonLine(line: object): string {
  try {
    return printable(asText(line));
  } catch {
    // A failure to log must not make the request fail.
    const fields = Object.entries(line).map(([key, each]) => [key, isPlain(each) ? each : shown(each)]);
    return printable(JSON.stringify(Object.fromEntries(fields)));
  }
}

/** Line breaks are escaped too, so that a caller cannot forge log lines. */
function textLine({ time, level, message, ...fields }: LogLine): string {
  const rest = Object.entries(fields).map(([key, value]) => ` ${printable(key)}=${fieldText(value)}`);
  return `${String(time).slice(11, 23)} ${level.padEnd(5)} ${printable(String(message))}${rest.join('')}`;
}

function fieldText(value: unknown): string {
  if (typeof value === 'string' && /^[\w.:/@-]+$/.test(value)) return value;
  try {
    return printable(asText(value));
  } catch {
    return printable(JSON.stringify(shown(value)));
  }
}

/**
 * JSON in which errors are replaced by their stacks. Plain values, the usual case, are serialised without a replacer,
 * which is faster.
 * @throws for a value that refers to itself, or that throws when it is read
 */
function asText(value: unknown): string {
  const plain =
    typeof value !== 'object' || value === null || (!(value instanceof Error) && hasPlainFields(value));
  return (
    (plain && typeof value !== 'bigint' ? JSON.stringify(value) : JSON.stringify(value, readable)) ??
    'undefined'
  );
}

function hasPlainFields(line: object): boolean {
  // Not `Object.values`, which makes a list for each line. A line inherits no fields.
  for (const key in line) if (!isPlain(Reflect.get(line, key))) return false;
  return true;
}

function isPlain(value: unknown): boolean {
  // JSON reads `toJSON` of functions too.
  const type = typeof value;
  return (type !== 'object' || value === null) && type !== 'bigint' && type !== 'function';
}

function readable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return stackOf(value);
  return typeof value === 'bigint' ? value.toString() : value;
}
