import { randomUUID } from 'node:crypto';

/**
 * The maximum size of an integer in requests and replies of every encoding, in bytes of its magnitude. The time to read or write
 * an integer grows faster than its size.
 */
export const MAX_INTEGER_BYTES = 64;
/** The digits of the largest one. */
export const MAX_DIGITS = 155;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;

/**
 * Parses JSON without rounding: an integer that a number cannot represent exactly becomes a bigint.
 * @throws IntegerTooLong for an integer of more than `MAX_INTEGER_BYTES`
 * @throws SyntaxError
 */
export function parseExactly(json: string): unknown {
  if (!/\d{16}/.test(json)) return JSON.parse(json);
  const marker = randomUUID();
  const marked = replaceOutsideStrings(json, (piece) =>
    piece.replace(NUMBER, (number) => (isRounded(number) ? `"${marker}${number}"` : number)),
  );
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(marker) ? integerOf(value.slice(marker.length)) : value,
  );
}

/**
 * Serialises to JSON; a bigint becomes an integer with all its digits.
 * @throws RangeError for an integer of more than `MAX_INTEGER_BYTES`
 * @param indent number of spaces for each level; by default everything is on one line
 */
export function stringifyExactly(value: unknown, indent = 0): string {
  const marker = randomUUID();
  let marks = 0;
  const json = JSON.stringify(
    value,
    (_key, each: unknown) => {
      if (typeof each !== 'bigint') return each;
      if (isTooLong(each)) throw new RangeError(TOO_LONG);
      marks++;
      return `${marker}${each}`;
    },
    indent,
  );
  return marks === 0 ? json : json.replaceAll(new RegExp(`"${marker}(-?\\d+)"`, 'g'), '$1');
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

/** Replaces the pieces of JSON between its strings. */
function replaceOutsideStrings(json: string, replace: (piece: string) => string): string {
  const pieces: string[] = [];
  for (let at = 0; at < json.length; ) {
    const open = json.indexOf('"', at);
    if (open < 0) {
      pieces.push(replace(json.slice(at)));
      break;
    }
    const end = endOfString(json, open);
    pieces.push(replace(json.slice(at, open)), json.slice(open, end));
    at = end;
  }
  return pieces.join('');
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
