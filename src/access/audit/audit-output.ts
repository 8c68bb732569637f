import type { AuditSink, SinkLine, Written } from './audit-sink.js';

/** Writes to an output of the process. Nothing says whether somebody keeps the lines. */
export class AuditOutput implements AuditSink {
  readonly #output: NodeJS.WritableStream;

  constructor(output: NodeJS.WritableStream) {
    this.#output = output;
  }

  async write(lines: readonly SinkLine[]): Promise<Written> {
    for (const { text } of lines) this.#output.write(`${text}\n`);
    return { kept: lines.length };
  }

  async close(): Promise<void> {}
}
