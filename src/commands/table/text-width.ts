import stringWidth from 'string-width';

const ELLIPSIS = '…';
const graphemes = new Intl.Segmenter();

/** How many columns of a terminal a text takes: East Asian characters take two, combining ones none. */
export const widthOf: (text: string) => number = stringWidth;

/** The text, or as much of its beginning as fits with an ellipsis into this many columns. */
export function cutTo(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  return width < 1 ? '' : `${beginningOf(text, width - 1)}${ELLIPSIS}`;
}

/** Fills a text with spaces up to this many columns. */
export function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

/** Breaks a text into lines of at most this many columns: between words where it can, else within one. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (widthOf(longer) <= width) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    while (widthOf(line) > width) {
      // A character that is wider than all the space is not cut.
      const part = beginningOf(line, width) || firstOf(line);
      if (part === line) break;
      lines.push(part);
      line = line.slice(part.length);
    }
  }
  return [...lines, line];
}

/** Whole characters of the beginning that fit into this many columns. */
function beginningOf(text: string, width: number): string {
  let end = 0;
  let used = 0;
  for (const { segment, index } of graphemes.segment(text)) {
    used += widthOf(segment);
    if (used > width) break;
    end = index + segment.length;
  }
  return text.slice(0, end);
}

function firstOf(text: string): string {
  for (const { segment } of graphemes.segment(text)) return segment;
  return '';
}
