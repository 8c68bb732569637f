import { CutOutput } from './cut-output.js';

/** How much of what is printed before the command is kept, in bytes; its end says why a command was not run. */
const KEPT_GREETING_BYTES = 2_000;

/** How much may be printed before the command, in bytes. */
const MAX_GREETING_BYTES = 256 * 1024;

/** The longest exit status with its newline. */
const STATUS_BYTES = 4;

const NOTHING = Buffer.alloc(0);

/**
 * One stream of a command made by `remoteCommand`. It separates what the command writes from what others write: the mark
 * comes immediately before it and, on stdout, immediately after it, followed by the exit status and a newline.
 */
export class MarkedOutput {
  readonly #begin: MarkSearch;
  readonly #end: MarkSearch;
  readonly #output: CutOutput;
  #greeting = NOTHING;
  #greetingBytes = 0;
  #begun = false;
  #ended = false;
  #status = '';

  /** @param limit of the command's output, in bytes */
  constructor(mark: string, limit: number) {
    this.#begin = new MarkSearch(mark);
    this.#end = new MarkSearch(mark);
    this.#output = new CutOutput(limit);
  }

  /**
   * @returns `cut` once the output exceeds its limit; `endless` once so much was printed before the command that it is not
   * awaited any longer; else `more`
   */
  add(chunk: Buffer): 'more' | 'cut' | 'endless' {
    if (this.#begun) return this.#addOutput(chunk);
    const { before, after } = this.#begin.add(chunk);
    this.#greetingBytes += before.length;
    this.#greeting = Buffer.from(Buffer.concat([this.#greeting, before]).subarray(-KEPT_GREETING_BYTES));
    if (after === undefined) return this.#greetingBytes > MAX_GREETING_BYTES ? 'endless' : 'more';
    this.#begun = true;
    return this.#addOutput(after);
  }

  /** Whether the host has begun the command. */
  get begun(): boolean {
    return this.#begun;
  }

  /** The exit status of the command; undefined when the host has not told it. */
  get exitStatus(): number | undefined {
    const digits = /^(\d{1,3})\n/.exec(this.#status)?.[1];
    return digits === undefined ? undefined : Number(digits);
  }

  /** The end of what was printed before the command. */
  greeting(): string {
    const unfinished = this.#begun ? NOTHING : this.#begin.held;
    return Buffer.concat([this.#greeting, unfinished]).toString('utf8');
  }

  /** The output of the command, decoded as UTF-8. */
  text(): string {
    if (!this.#ended) this.#output.add(this.#end.take());
    return this.#output.text();
  }

  #addOutput(chunk: Buffer): 'more' | 'cut' {
    if (this.#ended) {
      this.#addStatus(chunk);
      return 'more';
    }
    const { before, after } = this.#end.add(chunk);
    if (after !== undefined) {
      this.#ended = true;
      this.#addStatus(after);
    }
    return this.#output.add(before) ? 'more' : 'cut';
  }

  #addStatus(chunk: Buffer): void {
    this.#status += chunk.toString('latin1', 0, STATUS_BYTES - this.#status.length);
  }
}

/** Finds a mark in a stream, also where it is divided between chunks. */
class MarkSearch {
  readonly #mark: Buffer;
  /** The end of the stream so far, if it may be the beginning of the mark. */
  held: Buffer = NOTHING;

  constructor(mark: string) {
    this.#mark = Buffer.from(mark, 'latin1');
  }

  /** @returns what certainly comes before the mark, and what comes after it; `after` is undefined until it was found */
  add(chunk: Buffer): { before: Buffer; after: Buffer | undefined } {
    const data = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    const at = data.indexOf(this.#mark);
    if (at >= 0) {
      this.held = NOTHING;
      return { before: data.subarray(0, at), after: data.subarray(at + this.#mark.length) };
    }
    const certain = data.length - this.#beginningAtEndOf(data);
    // A copy, because a view would keep the socket's whole read buffer in memory.
    this.held = Buffer.from(data.subarray(certain));
    return { before: data.subarray(0, certain), after: undefined };
  }

  /** What is held, at the end of a stream without the mark. */
  take(): Buffer {
    const { held } = this;
    this.held = NOTHING;
    return held;
  }

  /** The length of the longest beginning of the mark with which the data ends. */
  #beginningAtEndOf(data: Buffer): number {
    for (let length = Math.min(data.length, this.#mark.length - 1); length > 0; length -= 1) {
      if (data.subarray(-length).equals(this.#mark.subarray(0, length))) return length;
    }
    return 0;
  }
}
