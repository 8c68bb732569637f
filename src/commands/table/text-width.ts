import stringWidth from 'string-width';

const ELLIPSIS = '…';
const graphemes = new Intl.Segmenter();

/** What is longer fits into no terminal, and to measure it exactly takes long. */
const MEASURED = 4_096;

/** How many columns of a terminal a text takes: East Asian characters take two, combining ones none. Of a very long one about as many. */
export function widthOf(text: string): number {
  const rest = Math.max(0, text.length - MEASURED);
  return stringWidth(rest === 0 ? text : text.slice(0, MEASURED)) + rest;
}

/** The text, or as much of its beginning as fits with an ellipsis into this many columns. */
export function cutTo(text: string, width: number): string {
  if (text.length <= MEASURED && widthOf(text) <= width) return text;
  return width < 1 ? '' : `${beginningOf(text, width - 1)}${ELLIPSIS}`;
}

/** Fills a text with spaces up to this many columns. */
export function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

/** As many characters of a text that is not ASCII are wrapped, which takes a second: nobody reads more of it on a terminal. */
const WRAPPED = 30_000;
const ASCII = /^[\x20-\x7e]*$/;

/**
 * Breaks a text into lines of at most this many columns: between words where it can, else within one. A text of megabytes that is not
 * ASCII is cut.
 */
export function wrapped(whole: string, width: number): string[] {
  const text =
    whole.length > WRAPPED && !ASCII.test(whole)
      ? `${whole.slice(0, WRAPPED).replace(/[\ud800-\udbff]$/, '')}${ELLIPSIS}`
      : whole;
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (widthOf(longer) <= width) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    const parts = partsOf(word, width);
    line = parts.pop() ?? '';
    for (const part of parts) lines.push(part);
  }
  return [...lines, line];
}

/** A word in parts of at most this many columns, of whole characters; one that is wider than that is a part of its own. */
function partsOf(word: string, width: number): string[] {
  const parts: string[] = [];
  if (ASCII.test(word)) {
    for (let at = 0; at < word.length; at += width) parts.push(word.slice(at, at + width));
    return parts;
  }
  let [start, used] = [0, 0];
  for (const { segment, index } of graphemes.segment(word)) {
    const wide = widthOf(segment);
    if (used + wide > width && index > start) {
      parts.push(word.slice(start, index));
      [start, used] = [index, 0];
    }
    used += wide;
  }
  return [...parts, word.slice(start)];
}

/** Whole characters of the beginning that fit into this many columns. */
function beginningOf(text: string, width: number): string {
  let end = 0;
  let used = 0;
  // What comes after that fits into no terminal.
  for (const { segment, index } of graphemes.segment(text.slice(0, MEASURED))) {
    used += widthOf(segment);
    if (used > width) break;
    end = index + segment.length;
  }
  return text.slice(0, end);
}
