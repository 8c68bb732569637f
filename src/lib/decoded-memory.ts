import { MAX_ELEMENTS } from './bounded-json.js';

/**
 * An upper bound for one value or key in V8's heap, in bytes. Measured: up to 102, for lists of one item and for maps with
 * a key each that no other map has. And as much again for the copy that an action gets.
 */
const ELEMENT_BYTES = 256;
/** A text takes two bytes for each UTF-16 unit when one of its characters is beyond Latin-1. */
const UNIT_BYTES = 2;

/** An upper bound for the memory that a decoded value takes, in bytes. */
export function memoryOf(value: unknown): number {
  switch (typeof value) {
    case 'string':
      return ELEMENT_BYTES + value.length * UNIT_BYTES;
    case 'object':
      return ELEMENT_BYTES + (value === null ? 0 : contentsOf(value));
    default:
      return ELEMENT_BYTES;
  }
}

/**
 * An upper bound for the memory that decoding takes, in bytes, before anything is decoded.
 * @param plainBytes the size of the message, inflated
 */
export function memoryToDecode(plainBytes: number): number {
  return plainBytes * (1 + UNIT_BYTES) + Math.min(plainBytes, MAX_ELEMENTS) * ELEMENT_BYTES;
}

function contentsOf(container: object): number {
  let bytes = 0;
  if (Array.isArray(container)) {
    for (const item of container) bytes += memoryOf(item);
    return bytes;
  }
  for (const key of Object.keys(container)) bytes += memoryOf(key) + memoryOf(Reflect.get(container, key));
  return bytes;
}
