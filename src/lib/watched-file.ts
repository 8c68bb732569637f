import type { Clock } from './clock.js';
import type { Logger } from './logger.js';
import { reasonOf } from './errors.js';
import { readTextFile } from './text-file.js';

export interface WatchedFileOptions<Content> {
  path: string;
  /** @throws Error that says what is wrong with the text, and quotes no secret */
  parse: (text: string) => Content;
  /** Logged when the file is used anew, and when it cannot be used: stable event phrases. */
  phrases: { reloaded: string; refused: string };
  clock: Clock;
  log: Logger;
}

/** The text of a file, or why it cannot be read. */
type Reading = { readonly text: string } | { readonly text: undefined; readonly error: unknown };

/**
 * How often the file is read, in milliseconds. Not watched by the kernel's events: these do not tell of files on other machines,
 * and of the links of Kubernetes only with events of their folders.
 */
const CHECK_MS = 5_000;

/** A file that is read again when it changes. A text that cannot be used changes nothing: what was read before stays. */
export class WatchedFile<Content> {
  readonly #options: WatchedFileOptions<Content>;
  #content: Content;
  /** What was used last, or refused; undefined: the file could not be read. */
  #seen: string | undefined;
  /** What the last look found, when that was new. */
  #changed: Reading | undefined;
  #cancel: (() => void) | undefined;

  /** Reads the file. @throws Error that says why it cannot be used */
  constructor(options: WatchedFileOptions<Content>) {
    this.#options = options;
    const text = readTextFile(options.path);
    this.#content = options.parse(text);
    this.#seen = text;
  }

  get content(): Content {
    return this.#content;
  }

  /** Reads the file every few seconds, until `stop`. */
  start(): void {
    this.#cancel = this.#options.clock.after(CHECK_MS, () => {
      this.#look();
      this.start();
    });
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Reads the file now, and logs the outcome also when it has not changed. */
  reload(): void {
    this.#use(this.#read());
  }

  /** A change is used when the next look finds the same: the first one may come while the file is being written. */
  #look(): void {
    const reading = this.#read();
    const isNew = reading.text !== this.#seen;
    const isSteady = this.#changed !== undefined && this.#changed.text === reading.text;
    if (isNew && isSteady) this.#use(reading);
    else this.#changed = isNew ? reading : undefined;
  }

  #read(): Reading {
    try {
      return { text: readTextFile(this.#options.path) };
    } catch (error) {
      return { text: undefined, error };
    }
  }

  #use(reading: Reading): void {
    const { path, parse, phrases, log } = this.#options;
    this.#changed = undefined;
    this.#seen = reading.text;
    try {
      if (reading.text === undefined) throw reading.error;
      this.#content = parse(reading.text);
      log.info(phrases.reloaded, { file: path });
    } catch (error) {
      log.warn(phrases.refused, { file: path, reason: reasonOf(error) });
    }
  }
}
