import type { JsonSchema } from '../../src/core/json-schema.js';

/**
 * A JSON Schema of the catalogue as a TypeScript type, in its own words.
 * @returns undefined when the schema does not say of what type a value is
 */
export function typeOfSchema(schema: JsonSchema): string | undefined {
  const { type, enum: values, items, properties, additionalProperties } = schema;
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(' | ');
  if (Array.isArray(type)) return type.map((each) => typeOfSchema({ ...schema, type: each })).join(' | ');
  switch (type) {
    case 'string':
    case 'boolean':
    case 'null':
      return type;
    case 'number':
    case 'integer':
      return 'number';
    case 'array':
      return `(${inner(items)})[]`;
    case 'object':
      return properties === undefined
        ? `Record<string, ${inner(additionalProperties)}>`
        : membersOf(properties, schema.required);
    default:
      return undefined;
  }
}

function membersOf(properties: unknown, required: unknown): string {
  const names: unknown[] = Array.isArray(required) ? required : [];
  const members = Object.entries(asSchema(properties)).map(
    ([name, schema]) => `${name}${names.includes(name) ? '' : '?'}: ${inner(schema)}`,
  );
  return `{ ${members.join('; ')} }`;
}

function inner(schema: unknown): string {
  return typeOfSchema(asSchema(schema)) ?? 'unknown';
}

function asSchema(value: unknown): JsonSchema {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
