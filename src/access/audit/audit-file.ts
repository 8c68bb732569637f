import { type FileHandle, open, stat } from 'node:fs/promises';
import { reasonOf } from '../../lib/errors.js';
import type { AuditSink, SinkLine, Written } from './audit-sink.js';

/** Others than the owner and the group may not read who does what. */
const MODE = 0o640;

export interface AuditFileOptions {
  path: string;
  /** Whether lines must outlive the machine: each write then waits for the disk. */
  sync: boolean;
}

/**
 * Appends lines to a file. Each batch is one write, and the kernel appends the whole of it, so that several workers can share a
 * file: their lines do not mix (POSIX write(), O_APPEND).
 */
export class AuditFile implements AuditSink {
  readonly #options: AuditFileOptions;
  #file: FileHandle;
  /** The current write. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Whether the file may end in the middle of a line: the last write failed, or that of a process before this one. */
  #mayBeCut: boolean;

  /** @throws the system's error, or Error when the path is something else than a file */
  static async open(options: AuditFileOptions): Promise<AuditFile> {
    return new AuditFile(options, await openFile(options.path));
  }

  private constructor(options: AuditFileOptions, { file, mayBeCut }: OpenedFile) {
    this.#options = options;
    this.#file = file;
    this.#mayBeCut = mayBeCut;
  }

  async write(lines: readonly SinkLine[]): Promise<Written> {
    const writing = this.#append(lines);
    this.#writing = writing;
    return writing;
  }

  async #append(lines: readonly SinkLine[]): Promise<Written> {
    const file = this.#file;
    const begin = this.#mayBeCut ? '\n' : '';
    const bytes = Buffer.from(`${begin}${lines.map(({ text }) => `${text}\n`).join('')}`);
    try {
      const { bytesWritten } = await file.write(bytes, 0, bytes.length, null);
      const isCut = bytesWritten < bytes.length;
      this.#wrote(file, isCut);
      if (isCut)
        return {
          kept: wholeLines(lines, bytesWritten - begin.length),
          problem: this.#problem('there was room for a part of the lines only'),
        };
      if (this.#options.sync) await file.datasync();
      return { kept: lines.length };
    } catch (error) {
      this.#wrote(file, true);
      return { kept: 0, problem: this.#problem(reasonOf(error)) };
    }
  }

  #wrote(file: FileHandle, isCut: boolean): void {
    // Another one may have been opened meanwhile.
    if (file === this.#file) this.#mayBeCut = isCut;
  }

  #problem(reason: string): string {
    return `${this.#options.path} cannot be written: ${reason}`;
  }

  /**
   * Opens the file anew: another program may have renamed it.
   * @throws the system's error; lines then go on to the file that is open
   */
  async reopen(): Promise<void> {
    const { file, mayBeCut } = await openFile(this.#options.path);
    const last = this.#file;
    this.#file = file;
    this.#mayBeCut = mayBeCut;
    // With its datasync, for which a close would not wait.
    await this.#writing;
    await last.close();
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}

interface OpenedFile {
  file: FileHandle;
  mayBeCut: boolean;
}

async function openFile(path: string): Promise<OpenedFile> {
  const existing = await stat(path).catch(() => undefined);
  // To open a pipe waits for its reader.
  if (existing !== undefined && !existing.isFile()) throw new Error(`${path} is not a file`);
  // Before it is opened: as soon as there is a new file, lines go to it.
  const mayBeCut = existing !== undefined && (await endsInLine(path));
  return { file: await open(path, 'a', MODE), mayBeCut };
}

/** Whether a file has something after its last line, or it cannot be known. */
async function endsInLine(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size === 0) return false;
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
      return buffer.toString() !== '\n';
    } finally {
      await file.close();
    }
  } catch {
    return true;
  }
}

/** How many of the first lines are in the first bytes, with their line breaks. */
function wholeLines(lines: readonly SinkLine[], bytes: number): number {
  let end = 0;
  const cut = lines.findIndex(({ text }) => {
    end += Buffer.byteLength(text) + 1;
    return end > bytes;
  });
  return cut === -1 ? lines.length : cut;
}
