const MAX_LINE_CHARACTERS = 300;
const MAX_TEXT_CHARACTERS = 2_000;

/**
 * Characters that control a terminal or the order of the text on it: C0, DEL and C1, bidirectional controls, Unicode's
 * line breaks; and lone surrogates, which cannot be sent.
 */
const CONTROL = /[^\P{Cc}\n\t]|[\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * The end of what a machine printed, at most 2,000 characters, with U+FFFD for what could control a terminal. Not the escapes of
 * `printable`, which are six times as long: here one character stays one, so that the limits hold.
 */
export function endOfText(text: string): string {
  return text.slice(-MAX_TEXT_CHARACTERS).replaceAll('\r\n', '\n').replace(CONTROL, '\u{fffd}');
}

/** The last line that a machine printed, at most 300 characters, for a message; empty when it printed none. */
export function lastLine(text: string): string {
  return shortened(endOfText(text).trimEnd().split('\n').at(-1)?.trim() ?? '');
}

/** What a machine printed, as one line of at most 300 characters, for a message. */
export function oneLine(text: string): string {
  return shortened(endOfText(text).trim().replaceAll(/\s+/g, ' '));
}

function shortened(line: string): string {
  return line.length > MAX_LINE_CHARACTERS ? `${line.slice(0, MAX_LINE_CHARACTERS)}...` : line;
}
