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

  /**
   * Adds the part that fits. After the limit was exceeded, adds nothing, so that the text has no gap.
   * @returns false once the limit is exceeded
   */
  add(chunk: Buffer): boolean {
    if (this.#cut) return false;
    const room = this.#limit - this.#bytes;
    this.#cut = chunk.length > room;
    // A copy, because a view would keep the socket's whole read buffer in memory.
    const fitting = Buffer.from(chunk.subarray(0, room));
    this.#chunks.push(fitting);
    this.#bytes += fitting.length;
    return !this.#cut;
  }

  /** The output decoded as UTF-8, without an incomplete character at the limit. */
  text(): string {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return decoder.decode(Buffer.concat(this.#chunks), { stream: this.#cut });
  }
}
