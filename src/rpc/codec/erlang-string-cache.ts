const LONGEST = 32;
const SLOTS = 256;

/**
 * A cache of short ASCII strings that occur in many messages, such as atoms and keys: comparing a cached string with
 * the bytes is much faster than decoding them. At most 256 strings of at most 32 characters.
 */
export class StringCache {
  private readonly slots: (string | undefined)[] = Array.from({ length: SLOTS }, () => undefined);

  /** The string of these bytes; undefined when they are too long or not ASCII. */
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
