import { Lexer } from 'yaml';

/** How deep lists and maps in brackets may be nested. */
const MAX_BRACKETS = 10;
/** At which column a list or a map without brackets may begin at most. Those within it begin further to the right. */
const MAX_COLUMN = 40;
/** `%YAML` and `%TAG` before the document, and anchors: the parser compares each with all others. */
const MAX_NAMED = 100;
/** What the lexer puts between the pieces of the text; the second one comes before the text of a value. */
const [MARKS, BEFORE_TEXT]: [ReadonlySet<string>, string] = [
  new Set(['\u0002', '\u0018', '\u001f']),
  '\u001f',
];
const INDICATORS: ReadonlySet<string> = new Set(['-', '?', ':']);

/**
 * Finds where a YAML text is more nested than anything that people write, or has more anchors. The parser must not get such a text: it
 * takes seconds, in which nothing else is done, and where its recursion ends the stack, V8 may end the process.
 * @returns an offset; undefined: there is no such place
 */
export function tooDeepAt(text: string): number | undefined {
  let [offset, lineStart, brackets, named] = [0, 0, 0, 0];
  let isText = false;
  for (const piece of new Lexer().lex(text)) {
    if (MARKS.has(piece)) {
      isText = piece === BEFORE_TEXT;
      continue;
    }
    if (!isText) {
      if (piece === '[' || piece === '{') brackets++;
      else if (piece === ']' || piece === '}') brackets = Math.max(0, brackets - 1);
      else if (/^[%&]/.test(piece)) named++;
      const isFar = brackets === 0 && INDICATORS.has(piece) && offset - lineStart > MAX_COLUMN;
      if (isFar || brackets > MAX_BRACKETS || named > MAX_NAMED) return offset;
    }
    isText = false;
    const lineBreak = piece.lastIndexOf('\n');
    if (lineBreak !== -1) lineStart = offset + lineBreak + 1;
    offset += piece.length;
  }
  return undefined;
}
