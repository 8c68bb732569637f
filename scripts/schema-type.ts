import type { JsonSchema } from '../src/core/json-schema.js';

/**
 * Converts a JSON Schema of the catalogue to a TypeScript type, with the descriptions of its fields as comments;
 * `unknown` for a value without a type in the schema.
 */
export function typeOfSchema(schema: JsonSchema): string {
  const { type, enum: values, items, prefixItems, properties, additionalProperties } = schema;
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
      return Array.isArray(prefixItems) ? `[${prefixItems.map(inner).join(', ')}]` : `(${inner(items)})[]`;
    case 'object':
      return properties === undefined
        ? `Record<string, ${inner(additionalProperties)}>`
        : membersOf(properties, schema.required);
    default:
      return 'unknown';
  }
}

/** A doc comment; empty text without a description. */
export function docComment(description: unknown): string {
  return typeof description === 'string' ? `\n/** ${description.replaceAll('*/', '*\\/')} */\n` : '';
}

function membersOf(properties: unknown, required: unknown): string {
  const names: unknown[] = Array.isArray(required) ? required : [];
  const members = Object.entries(asSchema(properties)).map(
    ([name, schema]) =>
      `${docComment(asSchema(schema).description)}${propertyName(name)}${names.includes(name) ? '' : '?'}: ${inner(schema)};`,
  );
  return members.length === 0 ? 'Record<string, never>' : `{ ${members.join(' ')} }`;
}

function propertyName(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}

function inner(schema: unknown): string {
  return typeOfSchema(asSchema(schema));
}

function asSchema(value: unknown): JsonSchema {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
