import { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { writeWhole } from '../lib/write-whole.js';

/** Where text goes. */
interface Target {
  /** Writes text in the background or at once, and calls `done`, with the error when it could not. */
  write: (text: string, done: (error?: Error | null) => void) => void;
  /**
   * Whether lines that come one soon after another are written together: with many small lines, the system calls take most of their
   * CPU time, also that of the reader.
   */
  batches: boolean;
}

/** How much may wait for the reader of a pipe, in bytes. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;

/** The least time between two writes, in milliseconds; a line that comes later than that is written at once. */
const PAUSE_MS = 5;

const STDERR = 2;
const LINE_BREAK = 0x0a;

/**
 * Where the lines of the log go. It never fails and never waits: a line that cannot be written, or for which nothing reads,
 * is dropped and counted.
 */
export class LogOutput extends Writable {
  readonly #target: Target;
  /** The lines that are not written yet, their bytes, and how many they are. */
  #text = '';
  #bytes = 0;
  #lines = 0;
  /** When lines were written last, in milliseconds. */
  #writtenAt = -Infinity;
  #waitingBytes = 0;
  /** Too much waits: every line is dropped until half of it is written, so that there is one gap, not many. */
  #isDropping = false;
  #dropped = 0;
  #report: (lines: number) => void = () => {};

  private constructor(target: Target) {
    super({
      decodeStrings: false,
      write: (text: string, _encoding, done) => {
        this.#add(text);
        done();
      },
    });
    this.#target = target;
    const queue = super.write.bind(this);
    // Past the queue of the stream: it is always empty, and its bookkeeping takes longer than all else that is done for a line.
    this.write = (line: unknown, ...more: unknown[]): boolean => {
      if (typeof line !== 'string' || more.length > 0)
        return Reflect.apply(queue, undefined, [line, ...more]);
      this.#add(line);
      return true;
    };
  }

  /** The standard error of the process. */
  static ofProcess(): LogOutput {
    const { stderr } = process;
    if (!(stderr instanceof Socket)) return new LogOutput({ write: toFile(STDERR), batches: false });
    const write = stderr.write.bind(stderr);
    const output = new LogOutput({
      write: (text, done) => {
        doNotBlock(stderr);
        write(text, done);
      },
      batches: true,
    });
    process.once('exit', () => output.flush());
    return output;
  }

  /** Calls `report` with the number of lines that were dropped, whenever lines can be written again. */
  reportDropped(report: (lines: number) => void): void {
    this.#report = report;
  }

  #add(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > MAX_WAITING_BYTES) this.#isDropping = true;
    if (this.#isDropping) {
      this.#dropped++;
      return;
    }
    this.#waitingBytes += bytes;
    this.#text += line;
    this.#bytes += bytes;
    this.#lines++;
    if (!this.#target.batches) this.flush();
    else if (this.#lines === 1) this.#flushSoon();
  }

  #flushSoon(): void {
    const pause = this.#writtenAt + PAUSE_MS - performance.now();
    if (pause <= 0) process.nextTick(() => this.flush());
    // The process may end before: then it is done at its exit.
    else setTimeout(() => this.flush(), pause).unref();
  }

  /** Writes the lines that are not written yet, and so before what others write from now on. */
  flush(): void {
    if (this.#lines === 0) return;
    this.#writtenAt = performance.now();
    const [text, bytes, lines] = [this.#text, this.#bytes, this.#lines];
    this.#text = '';
    this.#bytes = 0;
    this.#lines = 0;
    this.#target.write(text, (error) => {
      this.#waitingBytes -= bytes;
      if (this.#waitingBytes * 2 <= MAX_WAITING_BYTES) this.#isDropping = false;
      if (error) this.#dropped += lines;
      // Later: the log may be in the middle of a line.
      else if (this.#dropped > 0 && !this.#isDropping) process.nextTick(() => this.#reportDropped());
    });
  }

  #reportDropped(): void {
    const dropped = this.#dropped;
    if (dropped === 0) return;
    this.#report(dropped);
    // Otherwise the report itself could not be written.
    if (this.#dropped === dropped) this.#dropped = 0;
    else this.#dropped = dropped;
  }
}

/**
 * Node opens a pipe so that it does not block. A child process that inherits it makes it block again, for this process too:
 * the whole service would wait for the reader.
 */
function doNotBlock(pipe: NodeJS.WriteStream): void {
  if (pipe.isTTY) return;
  const handle: unknown = Reflect.get(pipe, '_handle');
  if (typeof handle !== 'object' || handle === null || !('setBlocking' in handle)) return;
  if (typeof handle.setBlocking === 'function') handle.setBlocking(false);
}

function toFile(descriptor: number): Target['write'] {
  let isCut = false;
  return (text, done) => {
    // A line that was cut is ended first.
    const bytes = Buffer.from(isCut ? `\n${text}` : text);
    try {
      writeWhole(descriptor, bytes, (written) => (isCut = bytes[written - 1] !== LINE_BREAK));
    } catch (error) {
      return done(error instanceof Error ? error : new Error(String(error)));
    }
    done();
  };
}
