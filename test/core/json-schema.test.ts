import test from 'ava';
import fc from 'fast-check';
import { array, boolean, date, lazy, mixed, number, object, ref, type Schema, string, tuple } from 'yup';
import { hostAddress, machineId, mapOf, stringMap, unitName } from '../../src/plugin.js';
import { type JsonSchema, jsonSchemaOf } from '../../src/core/json-schema.js';
import { parameterCheck, strictSchema } from '../../src/core/parameters.js';
import { objectSchemaOf, shapeAndValue } from './any-schema.js';

const described = { description: 'A field.' };

/** The JSON Schema of one field. */
function field(schema: Schema): JsonSchema {
  const whole = jsonSchemaOf(object({ field: schema.meta(described) })) as {
    properties: { field: JsonSchema };
  };
  const { description, ...rest } = whole.properties.field;
  return description === described.description ? rest : {};
}

/** Whether a JSON Schema accepts a value; supports only the part of JSON Schema 2020-12 that `jsonSchemaOf` writes. */
function takes(schema: JsonSchema, value: unknown): boolean {
  const {
    type,
    properties = {},
    required = [],
    items,
    prefixItems = [],
  } = schema as {
    type?: string | string[];
    properties?: Record<string, JsonSchema>;
    required?: string[];
    items?: JsonSchema;
    prefixItems?: JsonSchema[];
  };
  if (type !== undefined && ![type].flat().some((each) => isOfType(each, value))) return false;
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) return false;
  if (typeof value === 'string') {
    if (!within(schema.minLength, value.length, schema.maxLength)) return false;
    if (typeof schema.pattern === 'string' && !new RegExp(schema.pattern).test(value)) return false;
  }
  if (typeof value === 'number' && !within(schema.minimum, value, schema.maximum)) return false;
  if (Array.isArray(value)) {
    if (!within(schema.minItems, value.length, schema.maxItems)) return false;
    if (items !== undefined && !value.every((each) => takes(items, each))) return false;
    if (!prefixItems.every((each, index) => takes(each, value[index]))) return false;
  }
  if (isOfType('object', value)) {
    const entries = Object.entries(Object(value));
    if (!required.every((name) => entries.some(([key]) => key === name))) return false;
    for (const [key, each] of entries) {
      const own = Object.hasOwn(properties, key) ? properties[key] : schema.additionalProperties;
      if (own === false) return false;
      if (typeof own === 'object' && own !== null && !takes({ ...own }, each)) return false;
    }
  }
  return true;
}

function isOfType(type: string, value: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case 'number':
      return Number.isFinite(value);
    default:
      return typeof value === type;
  }
}

function within(least: unknown, value: number, most: unknown): boolean {
  return value >= Number(least ?? -Infinity) && value <= Number(most ?? Infinity);
}

test('a field that is marked as a secret is one that is only written', (t) => {
  t.deepEqual(field(string().meta({ secret: true })), { type: 'string', writeOnly: true });
});

test('the JSON Schema of parameters accepts exactly what the parameter check accepts', (t) => {
  const property = fc.property(shapeAndValue, ([shape, value]) => {
    const schema = strictSchema(objectSchemaOf(shape));
    // Missing parameters are an empty object.
    const sent = value ?? {};
    return (
      takes(jsonSchemaOf(schema), sent) === doesNotThrow(() => parameterCheck(schema, 'parameters')(sent))
    );
  });
  t.notThrows(() => fc.assert(property, { numRuns: 3_000 }));
});

function doesNotThrow(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

test('texts, numbers, flags and lists are described with their limits', (t) => {
  t.deepEqual(field(string().min(2).max(9)), { type: 'string', minLength: 2, maxLength: 9 });
  t.deepEqual(field(string().length(4)), { type: 'string', minLength: 4, maxLength: 4 });
  t.deepEqual(field(string().required()), { type: 'string', minLength: 1 });
  t.deepEqual(field(string().required().min(0)), { type: 'string', minLength: 1 });
  t.deepEqual(field(string().required().min(2)), { type: 'string', minLength: 2 });
  t.deepEqual(field(string().email()).format, 'email');
  t.deepEqual(field(string().url()).format, 'uri');
  t.deepEqual(field(string().uuid()).format, 'uuid');
  t.deepEqual(field(number().integer().min(1).max(9)), { type: 'integer', minimum: 1, maximum: 9 });
  t.deepEqual(field(number().moreThan(0).lessThan(1)), {
    type: 'number',
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
  });
  t.deepEqual(field(boolean()), { type: 'boolean' });
  t.deepEqual(field(array(number()).min(1)), { type: 'array', items: { type: 'number' }, minItems: 1 });
  t.deepEqual(field(tuple([string(), number()])), {
    type: 'array',
    prefixItems: [{ type: 'string' }, { type: 'number' }],
    minItems: 2,
    maxItems: 2,
  });
});

test('choices are listed, with null where it is allowed', (t) => {
  t.deepEqual(field(string().oneOf(['a', 'b'])), { type: 'string', enum: ['a', 'b'] });
  t.deepEqual(field(string().oneOf(['a']).nullable()), { type: ['string', 'null'], enum: ['a', null] });
  t.deepEqual(field(number().notOneOf([3])), { type: 'number', not: { enum: [3] } });
  t.deepEqual(field(mixed().oneOf(['on', 1])), { enum: ['on', 1] });
  t.deepEqual(field(boolean().oneOf([true])), { type: 'boolean', enum: [true] });
});

test('a field is required unless it is optional or has a default', (t) => {
  const schema = jsonSchemaOf(
    strictSchema(
      object({
        must: string().required().meta(described),
        may: string().meta(described),
        standard: string().required().default('x').meta(described),
        inner: object({ must: string().required().meta(described) }).meta(described),
        free: object({ may: string().meta(described) })
          .required()
          .meta(described),
      }),
    ),
  );
  t.deepEqual(schema.required, ['must', 'inner']);
});

test('an object that accepts no other keys is described like every other object', (t) => {
  const bare = object({ may: string().meta(described) });
  t.deepEqual(jsonSchemaOf(bare.exact()), jsonSchemaOf(bare));
  t.deepEqual(jsonSchemaOf(bare.noUnknown()), jsonSchemaOf(bare));
});

test('a default is reported', (t) => {
  const schema = jsonSchemaOf(
    object({
      loud: boolean().default(false).meta(described),
      hosts: array(string()).default(['a']).meta(described),
    }),
  );
  t.like(schema, { properties: { loud: { default: false }, hosts: { default: ['a'] } } });
  t.is(schema.required, undefined);
});

test('the schema pieces for plugin authors are described by what they accept', (t) => {
  t.is(field(unitName()).format, 'unit-name');
  t.is(field(hostAddress()).format, 'host-address');
  t.deepEqual(field(machineId()), { type: 'string', pattern: '^[0-9a-f]{32}$' });
  t.deepEqual(field(stringMap()), { type: 'object', additionalProperties: { type: 'string' } });
  t.deepEqual(field(stringMap().nullable()).type, ['object', 'null']);
});

const UNDESCRIBABLE: Record<string, [schema: Schema, reason: RegExp]> = {
  'a field without a description': [object({ a: string() }), /'a' has no meta\(\{ description \}\)/],
  'a field deep inside without a description': [
    object({ a: array(object({ b: string() })).meta(described) }),
    /'a\[\]\.b' has no meta\(\{ description \}\)/,
  ],
  'an empty description': [object({ a: string().meta({ description: '' }) }), /'a' has no meta/],
  'a list of anything': [object({ a: array().meta(described) }), /'a' has no schema for its items/],
  anything: [object({ a: mixed().meta(described) }), /'a' accepts any value/],
  'a type that JSON Schema does not know': [
    object({ a: mixed().meta({ ...described, type: 'strng' }) }),
    /'a' has an invalid meta\(\{ type \}\): it must be one of string, /,
  ],
  'a date': [
    object({ a: date().meta(described) }),
    /'a' is of the type 'date', which a message cannot contain/,
  ],
  'a custom test without a format': [
    object({
      a: string()
        .test('even', 'must be even', () => true)
        .meta(described),
    }),
    /'a' has the test 'even', which JSON Schema cannot express: add meta\(\{ format \}\)/,
  ],
  'a test without a name': [
    object({
      a: string()
        .test(() => true)
        .meta(described),
    }),
    /'a' has the test 'without a name'/,
  ],
  'a pattern with flags': [
    object({ a: string().matches(/x/i).meta(described) }),
    /'a' has the pattern \/x\/i/,
  ],
  'a choice that is not a plain value': [
    object({
      a: mixed()
        .oneOf([new Date(0)])
        .meta(described),
    }),
    /'a' lists a value that is not null, a string, a finite number or a boolean/,
  ],
  'a choice that JSON cannot write': [
    object({ a: number().oneOf([Infinity]).meta(described) }),
    /'a' lists a value/,
  ],
  'a size that is not whole': [
    object({ a: string().max(2.5).meta(described) }),
    /'a' has a 'max' whose limit is not a whole number from 0/,
  ],
  'a size below 0': [object({ a: array(string()).min(-1).meta(described) }), /'a' has a 'min' whose limit/],
  'a limit that is not finite': [
    object({ a: number().max(Infinity).meta(described) }),
    /'a' has a 'max' whose limit is not a finite number/,
  ],
  'a limit that depends on another field': [
    object({ a: number().max(ref('b')).meta(described) }),
    /'a' has a 'max' whose limit/,
  ],
  'a default that JSON cannot write': [
    object({
      a: mixed()
        .meta({ ...described, format: 'whole' })
        .default(10n),
    }),
    /'a' has a default that is not plain JSON/,
  ],
};

for (const [what, [schema, reason]] of Object.entries(UNDESCRIBABLE)) {
  test(`cannot be described: ${what}`, (t) => {
    t.throws(() => jsonSchemaOf(schema), { message: reason });
  });
}

test('cannot be described: a lazy schema', (t) => {
  const schema = object({ a: array(object({ b: string().meta(described) })).meta(described) });
  const withLazy = object({ a: lazy(() => string()) });
  t.notThrows(() => jsonSchemaOf(schema));
  t.throws(() => jsonSchemaOf(withLazy), { message: /'a'/ });
});

test('a map is described by its values', (t) => {
  t.deepEqual(field(mapOf(object({ n: number().integer().required().meta(described) })).nullable()), {
    type: ['object', 'null'],
    additionalProperties: {
      type: 'object',
      properties: { n: { type: 'integer', description: described.description } },
      required: ['n'],
      additionalProperties: false,
    },
  });
  t.throws(() => jsonSchemaOf(object({ a: mapOf(object({ n: number() })).meta(described) })), {
    message: "the field 'a.*.n' has no meta({ description })",
  });
});

test('a value of any type is described by the type that callers should send', (t) => {
  for (const type of ['string', 'number', 'integer', 'boolean', 'array', 'object'])
    t.deepEqual(field(mixed().meta({ type })), { type });
});

test('a pattern that is valid only without the flag u is shown, and is no pattern for JSON Schema', (t) => {
  t.deepEqual(field(string().matches(/^[\w-.]+$/)), { type: 'string', $comment: 'matches /^[\\w-.]+$/' });
  t.deepEqual(field(string().matches(/^\p{L}+$/u)), { type: 'string', pattern: '^\\p{L}+$' });
});

test('what JSON Schema cannot express is described by its format', (t) => {
  const even = number()
    .test('even', 'must be even', (value) => (value ?? 0) % 2 === 0)
    .meta({ format: 'even' });
  t.deepEqual(field(even), { type: 'number', format: 'even' });
  t.deepEqual(field(mixed().meta({ format: 'duration' })), { format: 'duration' });
  t.deepEqual(field(mixed().nullable().meta({ type: 'string', format: 'node' })), {
    type: ['string', 'null'],
    format: 'node',
  });
  t.deepEqual(field(mixed().nullable().meta({ format: 'node' })), { format: 'node' });
  t.deepEqual(field(string().matches(/x/i).meta({ format: 'has-x' })), { type: 'string', format: 'has-x' });
});
