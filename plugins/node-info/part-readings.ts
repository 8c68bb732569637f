import { ActionError, type RemoteOutput } from '../../src/plugin.js';
import { type Reading, UNREADABLE, unreadable } from './facts.js';
import { TOGETHER_BYTES } from './node-programs.js';

/** How a part of a node is read from what a program has printed. */
export interface Part<Facts> {
  /** What the part is called in `errors`. */
  what: string;
  /** The program, for messages. */
  program: string;
  parse: (text: string) => Reading<Facts>;
  /** A longer output cannot be read; by default as long as a program that runs with others may write. */
  maxBytes?: number;
}

/** Why a part of a node could not be read. */
interface Failure {
  what: string;
  reason: string;
  /** The code of an error of the connection; undefined when the program has failed, or its output cannot be read. */
  code?: string;
}

/** The parts of one node, and why some could not be read. */
export class PartReadings {
  readonly #failures: Failure[] = [];
  #isAnyRead = false;

  /**
   * @param output what the program has printed, or why it was not run
   * @returns null when nothing could be read
   */
  read<Facts>(
    { what, program, parse, maxBytes = TOGETHER_BYTES }: Part<Facts>,
    output: RemoteOutput | ActionError,
  ): { text: string; facts: Facts } | null {
    if (output instanceof ActionError) return this.failed(what, output);
    const { stdout: text, truncated, failure } = output;
    // Of a program that printed nothing there is no other reason.
    if (failure !== undefined && text === '') return this.failed(what, failure);
    try {
      // Truncated output could be misread: half a number is also a number.
      if (truncated || Buffer.byteLength(text) > maxBytes)
        throw unreadable(program, `: it has more than ${Math.floor(maxBytes / 1024)} KiB`);
      const { facts, problem } = parse(text);
      // Why a program has failed says more than what is missing in its output.
      const reason = failure?.message ?? problem;
      if (reason !== undefined) this.#failures.push({ what, reason });
      this.#isAnyRead = true;
      return { text, facts };
    } catch (error) {
      if (!(error instanceof ActionError)) throw error;
      return this.failed(what, failure ?? error);
    }
  }

  /** @returns null, as nothing is known of the part */
  failed(what: string, { code, message: reason }: ActionError): null {
    const isOfProgram = code === 'command_failed' || code === UNREADABLE;
    this.#failures.push(isOfProgram ? { what, reason } : { what, reason, code });
    return null;
  }

  /**
   * An error of the connection is the same for all programs of a node that runs none, so it is then reported once. When the node
   * has run some, each of the others has its own reason: a program that hangs, for example.
   */
  errors(): string[] {
    const ranSome = this.#isAnyRead || this.#failures.some(({ code }) => code === undefined);
    const texts = this.#failures.map(({ what, reason, code }) => `${ranSome ? what : code}: ${reason}`);
    return [...new Set(texts)];
  }
}
