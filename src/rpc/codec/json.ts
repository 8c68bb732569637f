import { MAX_ELEMENTS, parseBounded } from '../../lib/bounded-json.js';
import { stringifyExactly } from '../../lib/exact-json.js';
import { type Codec, DecodeError } from './codec.js';
import { EncodedRows } from './encoded-rows.js';

const CONTENT_TYPE = 'application/json';

/** JSON (RFC 8259) in UTF-8, for replies; integers keep all their digits when decoded and encoded. */
export const jsonCodec: Codec = jsonCodecOf(Infinity);

/** Like `jsonCodec`, for requests: the number of their values and keys is limited. */
export const jsonRequestCodec: Codec = jsonCodecOf(MAX_ELEMENTS);

const COMMA = Buffer.from(',');
const EMPTY_LIST_END = ']}'.length;

function jsonCodecOf(maxElements: number): Codec {
  const encode = (value: unknown) => Buffer.from(stringifyExactly(value));
  return {
    name: 'json',
    contentType: CONTENT_TYPE,

    recognises: (body) => {
      const first = body.find((byte) => byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
      return first === 0x7b;
    },

    plainSize: (body) => body.length,

    decode: (body) => {
      try {
        return parseBounded(body, { maxElements });
      } catch (error) {
        throw error instanceof SyntaxError ? new DecodeError(error.message) : error;
      }
    },

    encode,

    encodeRows: async (list) => {
      const pieces = list.parts.flatMap(({ json }, index) => (index === 0 ? [json] : [COMMA, json]));
      return new EncodedRows(list, pieces);
    },

    encodeAround: (map, { pieces }) => {
      const whole = encode(map);
      return [whole.subarray(0, -EMPTY_LIST_END), ...pieces, whole.subarray(-EMPTY_LIST_END)];
    },
  };
}
