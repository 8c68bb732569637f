const ESC = '\u001b';
const BEL = '\u0007';

/** What a terminal does not print (ECMA-48). */
const CONTROL_SEQUENCE = new RegExp(
  [
    // Colours, positions and the like.
    `${ESC}\\[[0-?]*[ -/]*[@-~]`,
    // Titles and links.
    `${ESC}\\][^${BEL}${ESC}\\n]*(?:${BEL}|${ESC}\\\\)`,
    // Character sets.
    `${ESC}[ -/]+[0-~]`,
  ].join('|'),
  'g',
);
/** Without a condition on what follows: a search for one would begin again at each carriage return. */
const CARRIAGE_RETURNS = /\r+/g;
const C0_OR_DEL = /[^\P{Cc}\n\u0080-\u009f]/gu;
/** C1, controls of the direction of text, and Unicode's line breaks. */
const OTHER_CONTROL = /[\u0080-\u009f\u2028-\u202e\u2066-\u2069]/gu;

/** The limit for a line of `readableLine`, in characters. */
const MAX_LINE = 2_000;

const HALF_CHARACTER_AT_END = /\p{Cs}$/u;

const TAB = ' '.repeat(8);
/** The first of the symbols for the control characters, which are in the same order. */
const FIRST_SYMBOL = 0x2400;
const SYMBOL_OF_DELETE = '\u2421';

/**
 * Text that controls nothing on a terminal. As journalctl does, it leaves out colours and a carriage return at the end of a
 * line, and writes a tab as eight spaces. Other control characters become their symbols, such as `␇`, or U+FFFD. No other
 * text of the service is shown like this: a log line should look as in journalctl.
 */
export function readable(text: string): string {
  return text
    .replace(CONTROL_SEQUENCE, '')
    .replace(CARRIAGE_RETURNS, withoutLineEnd)
    .replace(C0_OR_DEL, symbolOf)
    .replace(OTHER_CONTROL, '\u{fffd}');
}

/** One line of `readable` text, of at most 2,000 characters: a line break becomes the symbol `␊`. */
export function readableLine(text: string): string {
  const line = readable(text.slice(0, MAX_LINE + 1)).replaceAll('\n', '␊');
  return line.length > MAX_LINE
    ? `${line.slice(0, MAX_LINE - 3).replace(HALF_CHARACTER_AT_END, '')}...`
    : line;
}

function withoutLineEnd(returns: string, at: number, text: string): string {
  const next = text[at + returns.length];
  return next === undefined || next === '\n' ? '' : returns;
}

function symbolOf(character: string): string {
  if (character === '\t') return TAB;
  if (character === '\u007f') return SYMBOL_OF_DELETE;
  return String.fromCharCode(FIRST_SYMBOL + character.charCodeAt(0));
}
