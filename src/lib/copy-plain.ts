/** A deep copy of plain data: of arrays and of objects with string keys. Other values are kept as they are. */
export function copyPlain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map(copyPlain);
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    // A caller may send the key `__proto__`, to which an assignment means something else.
    if (key === '__proto__') return Object.fromEntries(Object.entries(value).map(copyEntry));
    copy[key] = copyPlain(Reflect.get(value, key));
  }
  return copy;
}

function copyEntry([key, value]: [string, unknown]): [string, unknown] {
  return [key, copyPlain(value)];
}
