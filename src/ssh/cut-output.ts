/** What a command writes, up to a limit. */
export class CutOutput {
  readonly #chunks: Buffer[] = [];
  readonly #limit: number;
  #bytes = 0;
  #cut = false;

  /** @param limit in bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes what fits, and nothing once something did not: a hole in the text would not show. False from then on. */
  add(chunk: Buffer): boolean {
    if (this.#cut) return false;
    const room = this.#limit - this.#bytes;
    this.#cut = chunk.length > room;
    // Copied: as a view of what the socket read it would keep all of that in memory.
    const fitting = Buffer.from(chunk.subarray(0, room));
    this.#chunks.push(fitting);
    this.#bytes += fitting.length;
    return !this.#cut;
  }

  /** As UTF-8; a character that the limit cut in two is left out. */
  text(): string {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return decoder.decode(Buffer.concat(this.#chunks), { stream: this.#cut });
  }
}
