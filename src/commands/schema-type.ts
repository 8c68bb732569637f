import type { JsonSchema } from '../core/json-schema.js';

/**
 * Converts a JSON Schema of the catalogue to a TypeScript type, with the descriptions of its fields as comments;
 * `unknown` for a value without a type in the schema.
 * @param margin what its further lines begin with
 */
export function typeOfSchema(schema: JsonSchema, margin = ''): string {
  const { type, enum: values, items, prefixItems, properties, additionalProperties } = schema;
  const inner = (each: unknown) => typeOfSchema(asSchema(each), margin);
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(' | ');
  if (Array.isArray(type)) return type.map((each) => inner({ ...schema, type: each })).join(' | ');
  switch (type) {
    case 'string':
    case 'boolean':
    case 'null':
      return type;
    case 'number':
    case 'integer':
      return 'number';
    case 'array':
      return Array.isArray(prefixItems) ? `[${prefixItems.map(inner).join(', ')}]` : listOf(inner(items));
    case 'object':
      return properties === undefined
        ? `Record<string, ${inner(additionalProperties)}>`
        : membersOf(properties, schema.required, margin);
    default:
      return 'unknown';
  }
}

function listOf(type: string): string {
  return type.includes(' | ') ? `(${type})[]` : `${type}[]`;
}

/** A doc comment on a line of its own; empty text without a description. */
export function docComment(description: unknown, margin = ''): string {
  return typeof description === 'string'
    ? `${margin}/** ${description.replaceAll('*/', '*\\/').replaceAll(/\s*\n\s*/g, ' ')} */\n`
    : '';
}

function membersOf(properties: unknown, required: unknown, margin: string): string {
  const names: unknown[] = Array.isArray(required) ? required : [];
  const deeper = `${margin}  `;
  const members = Object.entries(asSchema(properties)).map(([name, value]) => {
    const schema = asSchema(value);
    const mark = names.includes(name) ? '' : '?';
    return `${docComment(schema.description, deeper)}${deeper}${propertyName(name)}${mark}: ${typeOfSchema(schema, deeper)};\n`;
  });
  return members.length === 0 ? 'Record<string, never>' : `{\n${members.join('')}${margin}}`;
}

function propertyName(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}

function asSchema(value: unknown): JsonSchema {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
