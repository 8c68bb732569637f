import { randomUUID } from 'node:crypto';

/**
 * The maximum size of an integer in requests and replies of every encoding, in bytes of its magnitude. The time to read or write
 * an integer grows faster than its size.
 */
export const MAX_INTEGER_BYTES = 64;
/** The digits of the largest one. */
export const MAX_DIGITS = 155;
/** Only an integer of at least this many digits may be rounded. */
const LONG_RUN = /\d{16}/g;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;
const IN_NUMBER = /[-+.\deE]/;

/**
 * Parses JSON without rounding: an integer that a number cannot represent exactly becomes a bigint.
 * @throws IntegerTooLong for an integer of more than `MAX_INTEGER_BYTES`
 * @throws SyntaxError
 */
export function parseExactly(json: string): unknown {
  const rounded = roundedIntegersIn(json);
  if (rounded.length === 0) return JSON.parse(json);
  const marker = randomUUID();
  let marked = '';
  let at = 0;
  for (const { start, end } of rounded) {
    marked += `${json.slice(at, start)}"${marker}${json.slice(start, end)}"`;
    at = end;
  }
  return JSON.parse(marked + json.slice(at), (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(marker) ? integerOf(value.slice(marker.length)) : value,
  );
}

/**
 * Serialises to JSON; a bigint becomes an integer with all its digits.
 * @throws RangeError for an integer of more than `MAX_INTEGER_BYTES`
 * @param indent number of spaces for each level; by default everything is on one line
 */
export function stringifyExactly(value: unknown, indent = 0): string {
  try {
    // Much faster without a replacer; it throws at the first bigint.
    return JSON.stringify(value, undefined, indent);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  return stringifyWithBigints(value, indent);
}

function stringifyWithBigints(value: unknown, indent: number): string {
  const marker = randomUUID();
  const json = JSON.stringify(
    value,
    (_key, each: unknown) => {
      if (typeof each !== 'bigint') return each;
      if (isTooLong(each)) throw new RangeError(TOO_LONG);
      return `${marker}${each}`;
    },
    indent,
  );
  return json.replaceAll(new RegExp(`"${marker}(-?\\d+)"`, 'g'), '$1');
}

/** Whether an integer has more than `MAX_INTEGER_BYTES`. */
export function isTooLong(integer: bigint): boolean {
  const magnitude = integer < 0n ? -integer : integer;
  return BigInt.asUintN(MAX_INTEGER_BYTES * 8, magnitude) !== magnitude;
}

const TOO_LONG = `an integer has more than ${MAX_INTEGER_BYTES} bytes`;

/** The message does not quote the JSON. */
export class IntegerTooLong extends SyntaxError {
  constructor() {
    super(TOO_LONG);
  }
}

function integerOf(digits: string): bigint {
  const integer = BigInt(digits);
  if (isTooLong(integer)) throw new IntegerTooLong();
  return integer;
}

/** Parses an integer: a bigint where a number would round it. */
export function exactInteger(digits: string): number | bigint {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

function isRounded(number: string): boolean {
  if (!LONG_INTEGER.test(number)) return false;
  if (number.replace('-', '').length > MAX_DIGITS) throw new IntegerTooLong();
  return !Number.isSafeInteger(Number(number));
}

interface Span {
  start: number;
  end: number;
}

/**
 * Finds the integers that a number would round, outside strings. Most texts have none, but many digits in a row in a string,
 * such as a hash: so only places with enough digits are examined.
 */
function roundedIntegersIn(json: string): Span[] {
  const found: Span[] = [];
  // The end of the last string that was passed, and the beginning of the next one.
  let at = 0;
  let next: number | undefined;
  LONG_RUN.lastIndex = 0;
  for (let run = LONG_RUN.exec(json); run !== null; run = LONG_RUN.exec(json)) {
    next ??= beginOfString(json, at);
    while (next < run.index) {
      at = endOfString(json, next);
      next = beginOfString(json, at);
    }
    // It is in that string.
    if (at > run.index) {
      LONG_RUN.lastIndex = at;
      continue;
    }
    let [start, end] = [run.index, LONG_RUN.lastIndex];
    while (start > at && IN_NUMBER.test(json.charAt(start - 1))) start--;
    while (IN_NUMBER.test(json.charAt(end))) end++;
    if (isRounded(json.slice(start, end))) found.push({ start, end });
    LONG_RUN.lastIndex = end;
  }
  return found;
}

/** The index of the first quote from there on; the end of the JSON when there is none. */
function beginOfString(json: string, from: number): number {
  const open = json.indexOf('"', from);
  return open < 0 ? json.length : open;
}

/** The index after the closing quote of the string that starts at `open`; the end of the JSON when there is none. */
function endOfString(json: string, open: number): number {
  for (let close = json.indexOf('"', open + 1); close >= 0; close = json.indexOf('"', close + 1)) {
    let firstBackslash = close;
    while (json[firstBackslash - 1] === '\\') firstBackslash--;
    if ((close - firstBackslash) % 2 === 0) return close + 1;
  }
  return json.length;
}
