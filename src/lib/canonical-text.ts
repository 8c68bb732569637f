/**
 * A text of plain data that is the same for equal values only, whatever the order of their keys.
 * @returns undefined when it would be longer than this, or when the value is not only null, undefined, booleans, numbers,
 * bigints, strings, lists and plain objects
 */
export function canonicalText(value: unknown, maxCharacters: number): string | undefined {
  let text = '';
  const add = (more: string): boolean => {
    text += more;
    return text.length <= maxCharacters;
  };
  const write = (each: unknown): boolean => {
    switch (typeof each) {
      case 'string':
        return each.length <= maxCharacters && add(JSON.stringify(each));
      case 'number':
        return add(Object.is(each, -0) ? '-0' : String(each));
      case 'bigint':
        return add(`${each}n`);
      case 'boolean':
      case 'undefined':
        return add(String(each));
      case 'object':
        if (each === null) return add('null');
        if (Array.isArray(each)) return add('[') && each.every((one) => write(one) && add(',')) && add(']');
        return isPlain(each) && writeFields(each);
      default:
        return false;
    }
  };
  const writeFields = (object: object): boolean => {
    const fields = Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return (
      add('{') && fields.every(([key, one]) => write(key) && add(':') && write(one) && add(',')) && add('}')
    );
  };
  return write(value) ? text : undefined;
}

function isPlain(object: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null;
}
