const LONGEST = 32;
const SLOTS = 256;

/**
 * Remembers short ASCII texts that come again and again, the atoms and keys of messages: to compare a text with its
 * bytes takes a fraction of the time that making it anew takes. Holds at most 256 texts of at most 32 characters.
 */
export class KnownTexts {
  private readonly slots: (string | undefined)[] = Array.from({ length: SLOTS }, () => undefined);

  /** The text of these bytes, or undefined if they are not short ASCII. */
  ascii(bytes: Buffer, start: number, end: number): string | undefined {
    if (end - start > LONGEST) return undefined;
    let hash = 0;
    let allBits = 0;
    for (let i = start; i < end; i++) {
      const byte = bytes[i] ?? 0;
      allBits |= byte;
      hash = (Math.imul(hash, 31) + byte) | 0;
    }
    if (allBits > 0x7f) return undefined;
    const slot = (hash ^ (hash >> 8)) & (SLOTS - 1);
    const known = this.slots[slot];
    if (known !== undefined && isTextOf(known, bytes, start, end)) return known;
    const text = bytes.toString('latin1', start, end);
    this.slots[slot] = text;
    return text;
  }
}

function isTextOf(text: string, bytes: Buffer, start: number, end: number): boolean {
  if (text.length !== end - start) return false;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) !== bytes[start + i]) return false;
  }
  return true;
}
