import { randomUUID } from 'node:crypto';

/** A longer number is refused: it takes long to read, and no real value needs it. */
const MOST_DIGITS = 1_000;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;

/**
 * Reads JSON without rounding: whole numbers that a number cannot hold exactly are bigint.
 * @throws SyntaxError
 */
export function parseExactly(json: string): unknown {
  if (!/\d{16}/.test(json)) return JSON.parse(json);
  const marker = randomUUID();
  const marked = outsideTexts(json, (piece) =>
    piece.replace(NUMBER, (number) => (isRounded(number) ? `"${marker}${number}"` : number)),
  );
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(marker) ? BigInt(value.slice(marker.length)) : value,
  );
}

/**
 * Writes JSON; a bigint is written as a whole number of any length.
 * @param indent how many spaces for each level; without it everything is on one line
 */
export function stringifyExactly(value: unknown, indent = 0): string {
  const marker = randomUUID();
  let marks = 0;
  const json = JSON.stringify(
    value,
    (_key, each: unknown) => {
      if (typeof each !== 'bigint') return each;
      marks++;
      return `${marker}${each}`;
    },
    indent,
  );
  return marks === 0 ? json : json.replaceAll(new RegExp(`"${marker}(-?\\d+)"`, 'g'), '$1');
}

/** The whole number that these digits write: a bigint where a number would be rounded. */
export function exactInteger(digits: string): number | bigint {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

function isRounded(number: string): boolean {
  if (!LONG_INTEGER.test(number) || Number.isSafeInteger(Number(number))) return false;
  if (number.length > MOST_DIGITS) throw new SyntaxError(`a number has more than ${MOST_DIGITS} digits`);
  return true;
}

/** Replaces pieces of JSON that are outside its strings. */
function outsideTexts(json: string, replace: (piece: string) => string): string {
  const pieces: string[] = [];
  for (let at = 0; at < json.length; ) {
    const open = json.indexOf('"', at);
    if (open < 0) {
      pieces.push(replace(json.slice(at)));
      break;
    }
    const end = endOfText(json, open);
    pieces.push(replace(json.slice(at, open)), json.slice(open, end));
    at = end;
  }
  return pieces.join('');
}

/** Where the string that opens here ends: after its closing quote, or at the end of the input. */
function endOfText(json: string, open: number): number {
  for (let close = json.indexOf('"', open + 1); close >= 0; close = json.indexOf('"', close + 1)) {
    let first = close;
    while (json[first - 1] === '\\') first--;
    if ((close - first) % 2 === 0) return close + 1;
  }
  return json.length;
}
