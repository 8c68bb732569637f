import type { JsonSchema } from '../core/json-schema.js';

interface Marks {
  required?: string;
  optional?: string;
}

/** Describes the values that a schema allows: `integer, 1 to 10000`, `array of string`. */
export function typeText(schema: JsonSchema): string {
  const types = [schema.type].flat().filter((each) => typeof each === 'string');
  const kind = types.map((type) => namedType(type, schema)).join(' or ');
  const format = typeof schema.format === 'string' ? schema.format : undefined;
  const name = format === undefined ? kind || 'anything' : kind === '' ? format : `${kind} (${format})`;
  const choices = Array.isArray(schema.enum) ? `: ${schema.enum.join(', ')}` : '';
  return [`${name}${choices}`, ...boundsOf(schema)].join(', ');
}

/**
 * Describes the fields of a schema: one line for the type and one for the description. Fields of list items, of map
 * values and of nested objects are included.
 * @param marks the words for a required field and for an optional one
 */
export function fieldLines(schema: JsonSchema, marks: Marks, margin = '  '): string[] {
  const required = [schema.required ?? []].flat();
  const own = Object.entries(propertiesOf(schema)).flatMap(([name, field]) => {
    const standard = field.default === undefined ? '' : `, default ${JSON.stringify(field.default)}`;
    const mark = required.includes(name) ? marks.required : marks.optional;
    const type = `${typeText(field)}${mark === undefined ? '' : `, ${mark}`}${standard}`;
    return [
      `${margin}${name.padEnd(16)} ${type}`,
      `${margin}  ${descriptionOf(field)}`,
      ...fieldLines(field, marks, `${margin}    `),
    ];
  });
  const inner = [schema.items, schema.additionalProperties].filter(isSchema);
  return [...own, ...inner.flatMap((each) => fieldLines(each, marks, margin))];
}

/** The fields of an object by name; none when the schema names no fields. */
export function propertiesOf({ properties }: JsonSchema): Record<string, JsonSchema> {
  if (!isSchema(properties)) return {};
  return Object.fromEntries(
    Object.entries(properties).map(([name, field]) => [name, isSchema(field) ? field : {}]),
  );
}

/** The names of the fields of an object. */
export function fieldNames(schema: JsonSchema): string[] {
  return Object.keys(propertiesOf(schema));
}

/** The description of a schema; empty when it has none. */
export function descriptionOf({ description }: JsonSchema): string {
  return typeof description === 'string' ? description : '';
}

function namedType(type: string, { items, prefixItems, additionalProperties }: JsonSchema): string {
  if (type === 'array' && isSchema(items)) return `array of ${typeText(items)}`;
  if (type === 'array' && Array.isArray(prefixItems))
    return `array of ${prefixItems.map((each) => (isSchema(each) ? typeText(each) : 'anything')).join(' and ')}`;
  if (type === 'object' && isSchema(additionalProperties)) return `map to ${typeText(additionalProperties)}`;
  return type;
}

function boundsOf({ minLength, prefixItems, ...schema }: JsonSchema): string[] {
  return [
    range(schema.minimum, schema.maximum),
    schema.exclusiveMinimum === undefined ? '' : `more than ${Number(schema.exclusiveMinimum)}`,
    schema.exclusiveMaximum === undefined ? '' : `less than ${Number(schema.exclusiveMaximum)}`,
    // A minimum length of 1 is left out: it is part of `required`.
    range(minLength === 1 ? undefined : minLength, schema.maxLength, ' characters'),
    // The types of a tuple already show its length.
    prefixItems === undefined ? range(schema.minItems, schema.maxItems, ' items') : '',
    // A format says it in words, and nobody reads a long one.
    typeof schema.pattern === 'string' && schema.format === undefined && schema.pattern.length <= 60
      ? `matching ${schema.pattern}`
      : '',
  ].filter((each) => each !== '');
}

function range(least: unknown, most: unknown, unit = ''): string {
  if (least === undefined && most === undefined) return '';
  if (least === undefined) return `at most ${Number(most)}${unit}`;
  if (most === undefined) return `at least ${Number(least)}${unit}`;
  return least === most ? `exactly ${Number(least)}${unit}` : `${Number(least)} to ${Number(most)}${unit}`;
}

export function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
