import type { Clock } from '../lib/clock.js';
import { printable } from '../lib/printable.js';
import type { Terminal } from './table/terminal.js';
import { cutTo } from './table/text-width.js';

export interface ProgressOptions {
  /** Writes to the terminal as it is. */
  write: (text: string) => void;
  terminal: Pick<Terminal, 'width'>;
  clock: Clock;
  /** What is waited for, asked again each time; `seconds` have passed. */
  describe: (seconds: number) => string;
}

/** A shorter wait shows nothing. */
const AFTER_MS = 300;
const EVERY_MS = 100;
const FRAMES = ['|', '/', '-', '\\'];
const CLEAR_LINE = '\r\u001b[K';

/** One line about a wait on a terminal, which is gone when the wait ends. */
export class Progress {
  readonly #options: ProgressOptions;
  readonly #since: number;
  #frame = 0;
  #cancel: () => void;

  constructor(options: ProgressOptions) {
    const { clock } = options;
    this.#options = options;
    this.#since = clock.now();
    this.#cancel = clock.after(AFTER_MS, () => this.#draw());
  }

  /** Clears the line, so that others can print. Nothing is drawn afterwards. */
  stop(): void {
    this.#cancel();
    if (this.#frame > 0) this.#options.write(CLEAR_LINE);
    this.#frame = 0;
  }

  #draw(): void {
    const { clock, describe, terminal, write } = this.#options;
    const seconds = Math.floor((clock.now() - this.#since) / 1_000);
    const line = `${FRAMES[this.#frame++ % FRAMES.length]} ${printable(describe(seconds))}`;
    // Not in the last column, where some terminals begin another line.
    write(`${CLEAR_LINE}${cutTo(line, (terminal.width ?? 80) - 1)}`);
    this.#cancel = clock.after(EVERY_MS, () => this.#draw());
  }
}
