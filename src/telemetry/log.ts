import { createRequire } from 'node:module';
import type winston from 'winston';
import type { Logger } from '../lib/logger.js';
import { formatLine, type LogFormat } from './log-line.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface LogOptions {
  level: LogLevel;
  format: LogFormat;
  /** The output; by default standard error, because commands print their results to standard output. */
  stream?: NodeJS.WritableStream;
}

const require = createRequire(import.meta.url);
/** Not all of winston: its logger and its colors take a tenth of the service's start. */
const StreamTransport: typeof winston.transports.Stream = require('winston/lib/winston/transports/stream.js');

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

type Line = Parameters<typeof formatLine>[1];

/** The output that a log shares with the logs made by its `with`. */
interface Sink {
  transport: LineTransport;
  /** The levels that are written. */
  levels: ReadonlySet<LogLevel>;
}

/** Writes each line to a stream. */
class LineTransport extends StreamTransport {
  readonly #format: LogFormat;
  readonly #stream: NodeJS.WritableStream;

  constructor(format: LogFormat, stream: NodeJS.WritableStream) {
    super({ stream });
    this.#format = format;
    this.#stream = stream;
  }

  override log(line: Line, done: () => void): void {
    this.#stream.write(`${formatLine(this.#format, line)}\n`);
    done();
  }
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
    const transport = new LineTransport(format, stream);
    return new Log({ transport, levels: new Set(LEVELS.slice(0, LEVELS.indexOf(level) + 1)) }, {});
  }

  /** A log that adds these fields to every line. */
  with(fields: Record<string, unknown>): Log {
    // The fields are merged only when a line is written: most requests write only one.
    return new Log(this.#sink, fields, this);
  }

  #addFieldsTo(line: Line): void {
    if (this.#outer !== undefined) this.#outer.#addFieldsTo(line);
    Object.assign(line, this.#fields);
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
    const { transport, levels } = this.#sink;
    if (!levels.has(level)) return;
    const time = isoTime(Date.now());
    const line: Line = { time, level, message };
    this.#addFieldsTo(line);
    Object.assign(line, fields);
    // A field with one of these names must not replace them.
    line.time = time;
    line.level = level;
    line.message = message;
    // Not through winston's logger: its two streams and its check of the level take as long as the rest of a line.
    transport.log(line, DONE);
  }
}

const DONE = () => {};
let lastTime = { ms: Number.NaN, text: '' };

/** In ISO 8601; many lines are written in the same millisecond. */
function isoTime(ms: number): string {
  if (ms !== lastTime.ms) lastTime = { ms, text: new Date(ms).toISOString() };
  return lastTime.text;
}
