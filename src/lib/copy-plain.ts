/** A deep copy of plain data: of arrays and of objects with string keys. Other values are kept as they are. */
export function copyPlain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map(copyPlain);
  // fromEntries, not an assignment: a caller may send the key `__proto__`.
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, copyPlain(each)]));
}
