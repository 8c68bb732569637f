import { RowList } from '../api/row-list.js';
import { isTooLong } from '../lib/exact-json.js';

/** The encodings of replies are read to a depth of 100, with what surrounds the result. */
const MAX_DEPTH = 90;
const MAX_PATH = 300;

/** Thrown from inside a value; the keys are added on the way out, the innermost first. */
class Unsendable {
  readonly what: string;
  readonly keys: string[] = [];

  constructor(what: string) {
    this.what = what;
  }
}

/**
 * Finds a value that no encoding can carry: JSON would write a map as `{}` and `NaN` as null, and leave out a function,
 * without an error. Allowed are null, undefined, booleans, finite numbers, bigints of at most 64 bytes, strings, lists, plain
 * objects, and objects with `toJSON` that are no buffers. Never throws.
 * @param name the name of the value, the beginning of the path
 * @returns the first one found, such as `result.units[3].log is a stream`
 */
export function unsendableIn(value: unknown, name: string): string | undefined {
  try {
    check(value, []);
    return undefined;
  } catch (error) {
    if (!(error instanceof Unsendable)) return `${name} cannot be read`;
    return `${name}${error.keys.toReversed().join('').slice(0, MAX_PATH)} ${error.what}`;
  }
}

/** @param outer the objects around the value */
function check(value: unknown, outer: object[]): void {
  switch (typeof value) {
    case 'number':
      if (!Number.isFinite(value)) throw new Unsendable(`is ${value}`);
      return;
    case 'bigint':
      if (isTooLong(value)) throw new Unsendable('is an integer that is too long');
      return;
    case 'function':
    case 'symbol':
      throw new Unsendable(`is a ${typeof value}`);
    case 'object':
      if (value !== null) checkObject(value, outer);
  }
}

function checkObject(value: object, outer: object[]): void {
  if (outer.includes(value)) throw new Unsendable('contains itself');
  if (outer.length >= MAX_DEPTH) throw new Unsendable(`is nested more than ${MAX_DEPTH} levels deep`);
  outer.push(value);
  if (ArrayBuffer.isView(value)) {
    // A buffer has `toJSON`, but no caller expects a list of its bytes.
    throw new Unsendable(`is ${kindOf(value)}`);
  } else if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) checkItem(value, i, outer);
  } else if (value instanceof RowList) {
    // It is JSON.
  } else if ('toJSON' in value && typeof value.toJSON === 'function') {
    check(value.toJSON(), outer);
  } else {
    if (!isPlain(value)) throw new Unsendable(`is ${kindOf(value)}`);
    for (const key of Object.keys(value)) checkItem(value, key, outer);
  }
  outer.pop();
}

function checkItem(value: object, key: string | number, outer: object[]): void {
  try {
    check(Reflect.get(value, key), outer);
  } catch (error) {
    // A getter or a method `toJSON` has thrown.
    const problem = error instanceof Unsendable ? error : new Unsendable('cannot be read');
    problem.keys.push(typeof key === 'number' ? `[${key}]` : `.${key}`);
    throw problem;
  }
}

/** Whether its prototype is that of `{}`, also of another realm, or none. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function kindOf(value: object): string {
  if (value instanceof Promise) return 'a promise';
  if ('pipe' in value || value instanceof ReadableStream) return 'a stream';
  return `an instance of ${value.constructor.name}`;
}
