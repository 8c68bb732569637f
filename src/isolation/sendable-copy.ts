/** A value that is larger than a reply may be. */
export class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/**
 * A copy of plain data in which each object with `toJSON` is replaced by what that returns: another process gets no methods.
 * @param value what `unsendableIn` has no objection to
 * @param maxBytes the largest reply, in bytes. Every encoding needs at least what is counted here
 * @throws TooLarge
 */
export function sendableCopy(value: unknown, maxBytes: number): unknown {
  let bytes = 0;
  const count = (more: number) => {
    bytes += more;
    if (bytes > maxBytes) throw new TooLarge(`it has more than ${maxBytes} bytes`);
  };
  const copy = (each: unknown): unknown => {
    count(typeof each === 'string' ? Buffer.byteLength(each) : 1);
    if (typeof each !== 'object' || each === null) return each;
    if (Array.isArray(each)) return each.map(copy);
    if ('toJSON' in each && typeof each.toJSON === 'function') return copy(each.toJSON());
    const entries = Object.entries(each).map(([key, item]) => {
      count(Buffer.byteLength(key));
      return [key, copy(item)] as const;
    });
    // fromEntries, not an assignment: a key may be `__proto__`.
    return Object.fromEntries(entries);
  };
  return copy(value);
}
