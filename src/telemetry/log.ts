import { Socket } from 'node:net';
import { inspect } from 'node:util';
import winston from 'winston';
import { batchWrites } from '../lib/batched-writes.js';
import type { Logger } from '../lib/logger.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface LogOptions {
  level: LogLevel;
  /** `json`: one JSON object a line. `text`: lines for people. */
  format: 'json' | 'text';
  /** The output; standard error by default, because commands print their results to standard output. */
  stream?: NodeJS.WritableStream;
  /** Writes all lines of one turn of the event loop with one system call: for the one log of a process. */
  batched?: boolean;
}

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

/** The shared output of a log and of all logs made from it by `with`. */
interface Sink {
  logger: winston.Logger;
  /** The levels that are written. winston's own check costs half as much as a line. */
  levels: ReadonlySet<LogLevel>;
}

/** The log of the service. */
export class Log implements Logger {
  readonly #sink: Sink;
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #outer: Log | undefined;

  private constructor(sink: Sink, fields: Readonly<Record<string, unknown>>, outer?: Log) {
    this.#sink = sink;
    this.#fields = fields;
    this.#outer = outer;
  }

  static create({ level, format, stream = process.stderr, batched = false }: LogOptions): Log {
    if (batched && stream instanceof Socket) {
      batchWrites(stream);
      // Writes the lines that are still waiting.
      process.once('exit', () => stream.uncork());
    }
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
    // Merged only for a line that is written: most requests write one.
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
    // A field must not replace these three.
    line.time = time;
    line.level = level;
    line.message = message;
    logger.write(line);
  }
}

function asJson(): winston.Logform.Format {
  return winston.format.printf((line) => asText(line));
}

function asLines(): winston.Logform.Format {
  return winston.format.printf(({ time, level, message, ...fields }) => {
    const rest = Object.entries(fields).map(([key, value]) => ` ${harmless(key)}=${shown(value)}`);
    return `${String(time).slice(11, 23)} ${level.padEnd(5)} ${harmless(String(message))}${rest.join('')}`;
  });
}

function shown(value: unknown): string {
  return typeof value === 'string' && /^[\w.:/@-]+$/.test(value) ? value : harmless(asText(value));
}

/** Escapes line breaks and terminal codes (C0, DEL and C1 of ECMA-48), so that a caller cannot forge lines of the log. */
function harmless(text: string): string {
  return text.replace(/\p{Cc}|\p{Zl}|\p{Zp}/gu, (sign) => {
    return `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** JSON in which errors show their stack. Plain values, the common case, are written without a replacer. */
function asText(value: unknown): string {
  const plain =
    typeof value !== 'object' ||
    value === null ||
    (!(value instanceof Error) && Object.values(value).every(isPlain));
  try {
    return (
      (plain && typeof value !== 'bigint' ? JSON.stringify(value) : JSON.stringify(value, readable)) ??
      'undefined'
    );
  } catch {
    // It contains itself: a line that cannot be written must not fail the work.
    return JSON.stringify(value, (key, each: unknown) =>
      key === '' || isPlain(each) ? each : inspect(each),
    );
  }
}

function isPlain(value: unknown): boolean {
  return (typeof value !== 'object' || value === null) && typeof value !== 'bigint';
}

function readable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return stackOf(value);
  return typeof value === 'bigint' ? value.toString() : value;
}

/** The stack of an error and of its nearest causes: an error may be its own cause. */
function stackOf(error: Error, depth = 0): string {
  const behind: unknown[] = error instanceof AggregateError ? error.errors : [error.cause];
  const nearest = depth === 3 ? [] : behind.filter((each) => each !== undefined).slice(0, 5);
  const stacks = nearest.map((each) => (each instanceof Error ? stackOf(each, depth + 1) : inspect(each)));
  return [error.stack ?? error.message, ...stacks].join('\ncaused by: ');
}
