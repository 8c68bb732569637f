import { type Codec, DecodeError } from './codec.js';

/** The supported encodings of messages. */
export class Codecs {
  readonly #codecs: readonly Codec[];

  constructor(codecs: readonly Codec[]) {
    this.#codecs = codecs;
  }

  /**
   * The codec of a message: the codec of its content type, else the one that recognises its first bytes (existing
   * callers set no content type, and some libraries set `application/octet-stream`).
   * @throws DecodeError when no codec matches
   */
  of(body: Uint8Array, contentType: unknown): Codec {
    const found = this.#find(body, contentType);
    if (found === undefined) {
      const types = this.#codecs
        .map((each) => `${each.name} (content type ${each.contentType})`)
        .join(' or ');
      throw new DecodeError(`the encoding is not supported: send ${types}`);
    }
    return found;
  }

  /**
   * The codec for the reply to a message: the message's codec, else the first one.
   * @throws TypeError when there are no codecs
   */
  ofReply(body: Uint8Array, contentType: unknown): Codec {
    const codec = this.#find(body, contentType) ?? this.#codecs[0];
    if (codec === undefined) throw new TypeError('there are no codecs');
    return codec;
  }

  #find(body: Uint8Array, contentType: unknown): Codec | undefined {
    // Nearly all messages name it as it is written here.
    for (const codec of this.#codecs) if (codec.contentType === contentType) return codec;
    const type =
      typeof contentType === 'string' ? contentType.split(';', 1)[0]?.trim().toLowerCase() : undefined;
    return (
      this.#codecs.find((each) => each.contentType === type) ??
      this.#codecs.find((each) => each.recognises(body))
    );
  }
}
