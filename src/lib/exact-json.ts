import { randomUUID } from 'node:crypto';

/**
 * The maximum digits of an integer: as many as one of 64 bytes has. The time to read or write an integer grows faster than
 * its digits.
 */
export const MAX_DIGITS = 155;
const TOO_LARGE = 10n ** BigInt(MAX_DIGITS);
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;

/**
 * Parses JSON without rounding: an integer that a number cannot represent exactly becomes a bigint.
 * @throws SyntaxError
 */
export function parseExactly(json: string): unknown {
  if (!/\d{16}/.test(json)) return JSON.parse(json);
  const marker = randomUUID();
  const marked = replaceOutsideStrings(json, (piece) =>
    piece.replace(NUMBER, (number) => (isRounded(number) ? `"${marker}${number}"` : number)),
  );
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(marker) ? BigInt(value.slice(marker.length)) : value,
  );
}

/**
 * Serialises to JSON; a bigint becomes an integer with all its digits.
 * @throws RangeError for an integer of more than `MAX_DIGITS` digits
 * @param indent number of spaces for each level; by default everything is on one line
 */
export function stringifyExactly(value: unknown, indent = 0): string {
  const marker = randomUUID();
  let marks = 0;
  const json = JSON.stringify(
    value,
    (_key, each: unknown) => {
      if (typeof each !== 'bigint') return each;
      if (each >= TOO_LARGE || each <= -TOO_LARGE)
        throw new RangeError(`an integer has more than ${MAX_DIGITS} digits`);
      marks++;
      return `${marker}${each}`;
    },
    indent,
  );
  return marks === 0 ? json : json.replaceAll(new RegExp(`"${marker}(-?\\d+)"`, 'g'), '$1');
}

/** Parses an integer: a bigint where a number would round it. */
export function exactInteger(digits: string): number | bigint {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

function isRounded(number: string): boolean {
  if (!LONG_INTEGER.test(number)) return false;
  if (number.replace('-', '').length > MAX_DIGITS)
    throw new SyntaxError(`a number has more than ${MAX_DIGITS} digits`);
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
