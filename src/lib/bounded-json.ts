import { IntegerTooLong, MAX_DIGITS, parseExactly } from './exact-json.js';

/**
 * The maximum number of values and keys in a request. A message of 1 MiB can contain hundreds of thousands, which take
 * much memory and time.
 */
export const MAX_ELEMENTS = 100_000;

const MAX_DEPTH = 100;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const SPACE = 0x20;
const LARGE_EXPONENT = /[eE]\+?\d{3}/;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses JSON in UTF-8 from outside, without rounding. Its nesting, its number of values and keys, and the digits of its
 * numbers are checked before anything is built of it; integers have at most 64 bytes.
 * @param maxElements the maximum number of values and keys
 * @throws SyntaxError that says why, without quoting the JSON, which may contain a secret
 */
export function parseBounded(json: Uint8Array, { maxElements }: { maxElements: number }): unknown {
  const { depth, elements, digits } = extentOf(json);
  if (depth > MAX_DEPTH) throw new SyntaxError(`nested more than ${MAX_DEPTH} levels deep`);
  if (digits > MAX_DIGITS) throw new SyntaxError(`a number has more than ${MAX_DIGITS} digits`);
  if (elements > maxElements) throw new SyntaxError(`it has more than ${maxElements} values and keys`);
  const text = textOf(json);
  const value = valueOf(text);
  if (LARGE_EXPONENT.test(text) && containsInfinity(value))
    throw new SyntaxError('a number is beyond the range of JavaScript numbers');
  return value;
}

function textOf(json: Uint8Array): string {
  try {
    return utf8.decode(json);
  } catch (cause) {
    throw new SyntaxError('not valid UTF-8', { cause });
  }
}

function valueOf(text: string): unknown {
  try {
    return parseExactly(text);
  } catch (error) {
    if (error instanceof IntegerTooLong) throw error;
    // Without its cause: the parser's message quotes the text.
    throw new SyntaxError('not valid JSON');
  }
}

/** Whether a number was too large, such as `1e999`. Written again, it would become null. */
function containsInfinity(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isFinite(value);
  return typeof value === 'object' && value !== null && Object.values(value).some(containsInfinity);
}

interface Extent {
  /** The maximum nesting of brackets. Deep nesting would exhaust the stack of recursive functions. */
  depth: number;
  /** The number of values and keys. */
  elements: number;
  /** The most digits in a row, outside strings. */
  digits: number;
}

/** Measures JSON in one pass over its bytes. For bytes that are not valid JSON the result has no meaning. */
function extentOf(json: Uint8Array): Extent {
  let depth = 0;
  let deepest = 0;
  // One value, and one more after each comma, each colon, and each bracket that is not closed at once.
  let elements = 1;
  let row = 0;
  let digits = 0;
  let inText = false;
  let afterOpening = false;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i] ?? 0;
    if (inText) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inText = false;
      continue;
    }
    if (isDigit(byte)) {
      if (++row > digits) digits = row;
      afterOpening = false;
      continue;
    }
    row = 0;
    if (byte <= SPACE) continue;
    const opening = byte === 0x7b || byte === 0x5b;
    if (byte === QUOTE) inText = true;
    else if (byte === COMMA || byte === COLON) elements++;
    else if (opening) {
      elements++;
      deepest = Math.max(deepest, ++depth);
    } else if (byte === 0x7d || byte === 0x5d) {
      depth--;
      if (afterOpening) elements--;
    }
    afterOpening = opening;
  }
  return { depth: deepest, elements, digits };
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
