import type { Readable } from 'node:stream';

/**
 * Calls `onLine` with each line of the text, without its line break. A longer line is cut, and the rest of it dropped, so that
 * no more than one line of that length is kept.
 * @param maxLength in UTF-16 code units
 */
export function readLines(text: Readable, maxLength: number, onLine: (line: string) => void): void {
  let begun = '';
  /** Whether the line that has begun was too long, and was passed on. */
  let isCut = false;
  const add = (part: string) => {
    if (isCut) return;
    begun += part.slice(0, maxLength - begun.length + 1);
    if (begun.length <= maxLength) return;
    onLine(begun.slice(0, maxLength));
    isCut = true;
    begun = '';
  };
  text.setEncoding('utf8').on('data', (chunk: string) => {
    const [first = '', ...more] = chunk.split('\n');
    add(first);
    for (const part of more) {
      if (!isCut) onLine(begun);
      begun = '';
      isCut = false;
      add(part);
    }
  });
  text.on('end', () => {
    if (begun !== '') onLine(begun);
  });
}
