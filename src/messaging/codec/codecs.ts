import { type Codec, DecodeError } from './codec.js';

/** The encodings that messages may come in. */
export class Codecs {
  readonly #codecs: readonly Codec[];

  constructor(codecs: readonly Codec[]) {
    this.#codecs = codecs;
  }

  /**
   * The codec of a message: the one its content type names, else the one that recognises its first bytes (existing
   * callers set no content type, and some libraries set `application/octet-stream`).
   * @throws DecodeError when none fits
   */
  of(body: Uint8Array, contentType: unknown): Codec {
    const type =
      typeof contentType === 'string' ? contentType.split(';', 1)[0]?.trim().toLowerCase() : undefined;
    const found =
      this.#codecs.find((each) => each.contentType === type) ??
      this.#codecs.find((each) => each.recognises(body));
    if (found === undefined) {
      throw new DecodeError(
        `not in an encoding this service reads: ${this.#codecs.map((each) => each.name).join(', ')}`,
      );
    }
    return found;
  }
}
