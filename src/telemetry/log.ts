import winston from 'winston';
import type { Logger } from '../lib/logger.js';
import { formatLine, type LogFormat } from './log-line.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface LogOptions {
  level: LogLevel;
  format: LogFormat;
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
      format: winston.format.printf((line) => formatLine(format, line)),
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
