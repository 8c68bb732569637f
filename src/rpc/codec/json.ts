import { parseExactly, stringifyExactly } from '../../lib/exact-json.js';
import { type Codec, DecodeError } from './codec.js';

const MAX_DEPTH = 100;
const CONTENT_TYPE = 'application/json';
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** JSON (RFC 8259) in UTF-8; integers keep all their digits when decoded and encoded. */
export const jsonCodec: Codec = {
  name: 'json',
  contentType: CONTENT_TYPE,

  recognises: (body) => {
    const first = body.find((byte) => byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
    return first === 0x7b;
  },

  decode: (body) => {
    if (depthOf(body) > MAX_DEPTH) throw new DecodeError(`nested more than ${MAX_DEPTH} levels deep`);
    try {
      return parseExactly(utf8.decode(body));
    } catch (cause) {
      // The parser's message is not used: it quotes the body, which may contain a secret.
      throw new DecodeError(cause instanceof SyntaxError ? 'not valid JSON' : 'not valid UTF-8');
    }
  },

  encode: (value) => Buffer.from(stringifyExactly(value)),
};

/** The maximum nesting of brackets outside strings. Deep nesting would exhaust the stack of recursive parsers. */
function depthOf(body: Uint8Array): number {
  let depth = 0;
  let deepest = 0;
  let inText = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (inText) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inText = false;
    } else if (byte === QUOTE) inText = true;
    else if (byte === 0x7b || byte === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return deepest;
}
