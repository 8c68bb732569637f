import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { reasonOf } from '../lib/errors.js';
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

/**
 * How often the file is read, in milliseconds. Not watched by the kernel's events: these do not tell of files on other machines,
 * and of the links of Kubernetes only with events of their folders.
 */
const CHECK_MS = 5_000;

/** A file that is read again when it changes. A text that cannot be used changes nothing: what was read before stays. */
export class WatchedFile<Content> {
  readonly #options: WatchedFileOptions<Content>;
  #content: Content;
  /** What was read last, whether it could be used or not; undefined: the file could not be read. */
  #seen: string | undefined;
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
      this.#read((text) => text !== this.#seen);
      this.start();
    });
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Reads the file now, and logs the outcome also when it has not changed. */
  reload(): void {
    this.#read(() => true);
  }

  #read(isWanted: (text: string | undefined) => boolean): void {
    const { path, parse, phrases, log } = this.#options;
    let text: string | undefined;
    try {
      text = readTextFile(path);
      if (!isWanted(text)) return;
      this.#content = parse(text);
      log.info(phrases.reloaded, { file: path });
    } catch (error) {
      if (isWanted(text)) log.warn(phrases.refused, { file: path, reason: reasonOf(error) });
    } finally {
      this.#seen = text;
    }
  }
}
