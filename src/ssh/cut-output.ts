/** The output of a command, up to a limit. */
export class CutOutput {
  readonly #chunks: Buffer[] = [];
  readonly #limit: number;
  #bytes = 0;
  #cut = false;

  /** @param limit in bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Keeps what fits, and nothing after the first cut: a gap in the text would not be visible. @returns false from the cut on */
  add(chunk: Buffer): boolean {
    if (this.#cut) return false;
    const room = this.#limit - this.#bytes;
    this.#cut = chunk.length > room;
    // Copied: a view would keep the socket's whole buffer in memory.
    const fitting = Buffer.from(chunk.subarray(0, room));
    this.#chunks.push(fitting);
    this.#bytes += fitting.length;
    return !this.#cut;
  }

  /** As UTF-8, without a character that the limit cut in two. */
  text(): string {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return decoder.decode(Buffer.concat(this.#chunks), { stream: this.#cut });
  }
}
