/**
 * What may change the meaning of the text around it: control characters (C0, DEL, C1), invisible format characters with
 * those that reverse the direction of text, line and paragraph separators, and halves of surrogate pairs.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const UNSAFE_BUT_LAYOUT = /[^\P{Cc}\n\t]|[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/**
 * One line of text that is safe to show, for terminals and the log. It loses nothing: every unsafe character is written as
 * `\uXXXX`. JSON stays JSON of the same value, as unsafe characters occur only within its strings.
 */
export function printable(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** Like `printable`, but keeps line breaks and tabs: for text of several lines. */
export function printableLines(text: string): string {
  return text.replace(UNSAFE_BUT_LAYOUT, escaped);
}

function escaped(character: string): string {
  return character
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}
