import winston from 'winston';
import { shown, stackOf } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { printable } from '../lib/printable.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface LogOptions {
  level: LogLevel;
  /** `json`: one JSON object per line. `text`: lines for people. */
  format: 'json' | 'text';
  /** The output; by default standard error, because commands print their results to standard output. */
  stream?: NodeJS.WritableStream;
}

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

/** The output that a log shares with the logs made by its `with`. */
interface Sink {
  logger: winston.Logger;
  /** The levels that are written. Checked here, because winston's check takes half as long as writing a line. */
  levels: ReadonlySet<LogLevel>;
}

/** The log of this service. */
export class Log implements Logger {
  readonly #sink: Sink;
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #outer: Log | undefined;

  private constructor(sink: Sink, fields: Readonly<Record<string, unknown>>, outer?: Log) {
    this.#sink = sink;
    this.#fields = fields;
    this.#outer = outer;
  }

  static create({ level, format, stream = process.stderr }: LogOptions): Log {
    const transports = [new winston.transports.Stream({ stream, eol: '\n' })];
    const logger = winston.createLogger({
      level,
      format: format === 'json' ? asJson() : asLines(),
      transports,
    });
    return new Log({ logger, levels: new Set(LEVELS.slice(0, LEVELS.indexOf(level) + 1)) }, {});
  }

  /** A log that adds these fields to every line. */
  with(fields: Record<string, unknown>): Log {
    // The fields are merged only when a line is written: most requests write only one.
    return new Log(this.#sink, fields, this);
  }

  #allFields(): Readonly<Record<string, unknown>> {
    return this.#outer === undefined ? this.#fields : { ...this.#outer.#allFields(), ...this.#fields };
  }

  debug(message: string, fields?: Record<string, unknown>): void {
    this.#write('debug', message, fields);
  }

  info(message: string, fields?: Record<string, unknown>): void {
    this.#write('info', message, fields);
  }

  warn(message: string, fields?: Record<string, unknown>): void {
    this.#write('warn', message, fields);
  }

  error(message: string, fields?: Record<string, unknown>): void {
    this.#write('error', message, fields);
  }

  #write(level: LogLevel, message: string, fields?: Record<string, unknown>): void {
    const { logger, levels } = this.#sink;
    if (!levels.has(level)) return;
    const time = new Date().toISOString();
    const line = { time, level, message, ...this.#allFields(), ...fields };
    // A field with one of these names must not replace them.
    line.time = time;
    line.level = level;
    line.message = message;
    logger.write(line);
  }
}

function asJson(): winston.Logform.Format {
  return winston.format.printf((line) => {
    try {
      return printable(asText(line));
    } catch {
      // A failure to log must not make the request fail.
      const fields = Object.entries(line).map(([key, each]) => [key, isPlain(each) ? each : shown(each)]);
      return printable(JSON.stringify(Object.fromEntries(fields)));
    }
  });
}

/** Line breaks are escaped too, so that a caller cannot forge log lines. */
function asLines(): winston.Logform.Format {
  return winston.format.printf(({ time, level, message, ...fields }) => {
    const rest = Object.entries(fields).map(([key, value]) => ` ${printable(key)}=${fieldText(value)}`);
    return `${String(time).slice(11, 23)} ${level.padEnd(5)} ${printable(String(message))}${rest.join('')}`;
  });
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
    typeof value !== 'object' ||
    value === null ||
    (!(value instanceof Error) && Object.values(value).every(isPlain));
  return (
    (plain && typeof value !== 'bigint' ? JSON.stringify(value) : JSON.stringify(value, readable)) ??
    'undefined'
  );
}

function isPlain(value: unknown): boolean {
  return (typeof value !== 'object' || value === null) && typeof value !== 'bigint';
}

function readable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return stackOf(value);
  return typeof value === 'bigint' ? value.toString() : value;
}
