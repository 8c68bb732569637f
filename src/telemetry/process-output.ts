import type { Logger } from '../lib/logger.js';
import { LogOutput } from './log-output.js';

/**
 * The output of the process while it serves: standard error is the log, and whatever else writes to standard output or
 * standard error, such as a plugin, becomes lines of that log. So each line of a log in JSON is JSON.
 */
export class ProcessOutput {
  /** Standard error, for the log only. */
  readonly logOutput = LogOutput.ofProcess();
  readonly #stdout = new Captured('stdout', process.stdout);
  readonly #stderr = new Captured('stderr', process.stderr);

  /** Writes what others write to the log from now on, until `release`. */
  captureTo(log: Logger): void {
    this.#stdout.captureTo(log);
    this.#stderr.captureTo(log);
  }

  /** Lets others write again, after all that was logged before. */
  release(): void {
    this.logOutput.flush();
    this.#stdout.release();
    this.#stderr.release();
  }

  /** Writes text for people to standard output, also while that is captured. */
  print(text: string): void {
    this.#stdout.write(text);
  }
}

class Captured {
  readonly #name: string;
  readonly #stream: NodeJS.WriteStream;
  readonly #write: NodeJS.WriteStream['write'];

  constructor(name: string, stream: NodeJS.WriteStream) {
    this.#name = name;
    this.#stream = stream;
    this.#write = stream.write.bind(stream);
  }

  captureTo(log: Logger): void {
    this.#stream.write = (chunk: Uint8Array | string, ...more: unknown[]): boolean => {
      const text = (typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8')).trimEnd();
      if (text !== '') log.info('output written', { stream: this.#name, text });
      const done = more.at(-1);
      if (typeof done === 'function') process.nextTick(done);
      return true;
    };
  }

  write(text: string): void {
    this.#write(text);
  }

  release(): void {
    this.#stream.write = this.#write;
  }
}
