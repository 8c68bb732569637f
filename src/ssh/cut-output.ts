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

  /** Takes what fits. False when something did not. */
  add(chunk: Buffer): boolean {
    const room = this.#limit - this.#bytes;
    if (chunk.length > room) this.#cut = true;
    const fitting = chunk.subarray(0, room);
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
