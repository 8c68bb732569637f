import { isDeepStrictEqual } from 'node:util';
import type { Schema } from 'yup';
import type { JsonSchema } from '../api/action-description.js';
import { fieldsOf } from '../lib/fields-of.js';

export type { JsonSchema };

/** The result of a yup schema's `describe()`, of this copy of yup or of a plugin's own copy. */
interface Description {
  type: string;
  meta?: Record<string, unknown>;
  oneOf?: unknown[];
  notOneOf?: unknown[];
  nullable?: boolean;
  optional?: boolean;
  default?: unknown;
  tests?: { name?: string; params?: Record<string, unknown> }[];
  fields?: Record<string, Description>;
  innerType?: Description | Description[];
}

/**
 * Describes a yup schema as JSON Schema.
 * @throws Error with the field's name, when the field has no `meta({ description })`, or has a test that JSON Schema
 *   cannot express and no `meta({ format })`
 */
export function jsonSchemaOf(schema: Schema): JsonSchema {
  return translate(schema.describe(), '', false);
}

function translate(description: Description, path: string, described: boolean): JsonSchema {
  const { meta = {}, type } = description;
  const at = path === '' ? 'the schema' : `the field '${path}'`;
  if (described && (typeof meta.description !== 'string' || meta.description === '')) {
    throw new Error(`${at} has no meta({ description })`);
  }
  const result: JsonSchema = { ...shape(description, path, at) };
  if (typeof meta.description === 'string') result.description = meta.description;
  if (typeof meta.format === 'string' && !MAPS.includes(meta.format)) result.format = meta.format;
  // The annotation of JSON Schema for what is never shown again, such as a password.
  if (meta.secret === true) result.writeOnly = true;
  // How a person sees a result; names that begin with x- are for such annotations, in OpenAPI too.
  if (meta.column !== undefined) result['x-column'] = columnTitle(meta.column, at);
  if (meta.display !== undefined) result['x-display'] = display(meta.display, at);
  for (const test of description.tests ?? []) addTest(result, type, test, at, meta);
  // yup's `required` refuses the empty string.
  if (type === 'string' && description.tests?.some(({ name }) => name === 'required')) result.minLength ||= 1;
  const { oneOf = [], notOneOf = [] } = description;
  if (oneOf.length > 0) result.enum = oneOf.map(plain(at));
  if (notOneOf.length > 0) result.not = { enum: notOneOf.map(plain(at)) };
  // That of a secret would be shown to all.
  if (type !== 'object' && description.default !== undefined && meta.secret !== true)
    result.default = plainJson(description.default, at);
  if (description.nullable) {
    if (typeof result.type === 'string') result.type = [result.type, 'null'];
    if (Array.isArray(result.enum) && !result.enum.includes(null)) result.enum = [...result.enum, null];
  }
  return result;
}

function shape(description: Description, path: string, at: string): JsonSchema {
  const { type, meta = {}, innerType } = description;
  switch (type) {
    case 'string':
    case 'number':
    case 'boolean':
      return { type };
    case 'array':
      if (innerType === undefined || Array.isArray(innerType))
        throw new Error(`${at} has no schema for its items`);
      return { type, items: translate(innerType, `${path}[]`, false) };
    case 'tuple':
      if (!Array.isArray(innerType)) throw new Error(`${at} has no schema for its items`);
      return {
        type: 'array',
        prefixItems: innerType.map((each, index) => translate(each, `${path}[${index}]`, false)),
        minItems: innerType.length,
        maxItems: innerType.length,
      };
    case 'object':
      return objectShape(description, path);
    case 'mixed':
      if (meta.format === 'string-map') return { type: 'object', additionalProperties: { type: 'string' } };
      if (meta.format === 'map' && isSchema(meta.values))
        return {
          type: 'object',
          additionalProperties: translate(meta.values.describe(), `${path}.*`, false),
        };
      // The type that callers should send; the action handles other values itself.
      if (meta.type !== undefined) return { type: jsonType(meta.type, at) };
      if (typeof meta.format === 'string' || (description.oneOf ?? []).length > 0) return {};
      throw new Error(
        `${at} accepts any value: give it a type, oneOf(), meta({ type }), or meta({ format })`,
      );
    default:
      throw new Error(`${at} is of the type '${type}', which a message cannot contain`);
  }
}

/** The formats of `stringMap()` and `mapOf()`, which JSON Schema can express. */
const MAPS = ['string-map', 'map'];

function isSchema(value: unknown): value is { describe(): Description } {
  return typeof value === 'object' && value !== null && 'describe' in value;
}

const JSON_TYPES: readonly unknown[] = ['string', 'number', 'integer', 'boolean', 'array', 'object'];

function jsonType(type: unknown, at: string): unknown {
  if (Array.isArray(type) && type.length > 1) return type.map((each) => jsonType(each, at));
  if (JSON_TYPES.includes(type)) return type;
  throw new Error(`${at} has an invalid meta({ type }): it must be one of ${JSON_TYPES.join(', ')}`);
}

/** Without spaces, so that a person can name it in a command. */
function columnTitle(title: unknown, at: string): string {
  if (typeof title === 'string' && /^[A-Z0-9%_./-]{1,32}$/.test(title)) return title;
  throw new Error(
    `${at} has an invalid meta({ column }): it must be 1 to 32 of the characters A-Z 0-9 % _ . / -`,
  );
}

function display(value: unknown, at: string): string {
  if (value === 'records') return value;
  throw new Error(`${at} has an invalid meta({ display }): it must be records`);
}

function objectShape({ fields = {} }: Description, path: string): JsonSchema {
  const entries = Object.entries(fields);
  const required = entries
    .filter(([, field]) => !field.optional && field.default === undefined)
    .map(([name]) => name);
  return {
    type: 'object',
    properties: Object.fromEntries(
      entries.map(([name, field]) => [name, translate(field, path === '' ? name : `${path}.${name}`, true)]),
    ),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  };
}

const SIZES: Record<string, readonly [minimum: string, maximum: string]> = {
  string: ['minLength', 'maxLength'],
  array: ['minItems', 'maxItems'],
  number: ['minimum', 'maximum'],
};

function addTest(
  result: JsonSchema,
  type: string,
  { name, params = {} }: { name?: string; params?: Record<string, unknown> },
  at: string,
  meta: Record<string, unknown>,
): void {
  const [minimum, maximum] = SIZES[type] ?? [];
  const set = (key: string | undefined, value: unknown) => {
    const isLimit =
      type === 'number' ? Number.isFinite(value) : Number.isSafeInteger(value) && Number(value) >= 0;
    if (key === undefined || !isLimit)
      throw new Error(
        `${at} has a '${name}' whose limit is not ${type === 'number' ? 'a finite number' : 'a whole number from 0'}`,
      );
    result[key] = value;
  };
  switch (name) {
    case 'required':
    case 'noUnknown':
    case 'exact':
    case 'finite':
      return;
    case 'integer':
      result.type = 'integer';
      return;
    case 'min':
      return params.more === undefined ? set(minimum, params.min) : set('exclusiveMinimum', params.more);
    case 'max':
      return params.less === undefined ? set(maximum, params.max) : set('exclusiveMaximum', params.less);
    case 'length':
      set(minimum, params.length);
      return set(maximum, params.length);
    case 'matches':
      if (!(params.regex instanceof RegExp)) throw new Error(`${at} has a matches() without a pattern`);
      // JSON Schema's patterns have no flags.
      if (/[imsvy]/.test(params.regex.flags)) return requireFormat(`pattern ${params.regex}`, at, meta);
      return addPattern(result, params.regex);
    case 'email':
    case 'uuid':
      result.format = name;
      return;
    case 'url':
      result.format = 'uri';
      return;
    default:
      return requireFormat(`test '${name ?? 'without a name'}'`, at, meta);
  }
}

/** JSON Schema reads a pattern as one with the flag u, with which some are not valid, such as `[\w-.]`: these are only shown. */
function addPattern(result: JsonSchema, regex: RegExp): void {
  try {
    result.pattern = new RegExp(regex.source, 'u').source;
  } catch {
    result.$comment = `matches ${regex}`;
  }
}

/** A test that JSON Schema cannot express needs a `meta({ format })` that describes it. */
function requireFormat(what: string, at: string, meta: Record<string, unknown>): void {
  if (typeof meta.format === 'string') return;
  throw new Error(`${at} has the ${what}, which JSON Schema cannot express: add meta({ format })`);
}

function plainJson(value: unknown, at: string): unknown {
  try {
    if (isDeepStrictEqual(JSON.parse(JSON.stringify(value)), value)) return value;
  } catch {
    // A value that cannot be serialised is not plain JSON either.
  }
  throw new Error(`${at} has a default that is not plain JSON`);
}

function plain(at: string): (value: unknown) => unknown {
  return (value) => {
    const isPlain = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value);
    if (isPlain) return value;
    throw new Error(`${at} lists a value that is not null, a string, a finite number or a boolean`);
  };
}

/** The schema of an entry of a list; undefined: there is none. */
export function schemaOfItem({ prefixItems, items }: JsonSchema, index: number): JsonSchema | undefined {
  return schemaIn(fieldsOf(prefixItems)[index] ?? items);
}

/** The schema of a field of a map; undefined: there is none. */
export function schemaOfField(
  { properties, additionalProperties }: JsonSchema,
  name: string,
): JsonSchema | undefined {
  const fields = fieldsOf(properties);
  return schemaIn(Object.hasOwn(fields, name) ? fields[name] : additionalProperties);
}

function schemaIn(value: unknown): JsonSchema | undefined {
  return typeof value === 'object' && value !== null ? (value as JsonSchema) : undefined;
}
