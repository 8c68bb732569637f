import test from 'ava';
import fc from 'fast-check';
import { array, boolean, mixed, number, object, ref, type Schema, string } from 'yup';
import { fastCheck } from '../../src/core/fast-check.js';
import { strictSchema } from '../../src/core/parameters.js';
import { glob, mapOf, stringMap, unitName } from '../../src/plugin.js';
import { objectSchemaOf, shapeAndValue } from './any-schema.js';

function yupAccepts(schema: Schema, value: unknown): boolean {
  return schema.isValidSync(value, { strict: true });
}

/** Schemas of every kind that the built-in actions use. */
const SCHEMAS = {
  units: object({ name: glob().optional(), state: string().oneOf(['a', 'b']).optional() }),
  unit: object({ unit_name: unitName().required(), lines: number().integer().min(1).max(9).default(3) }),
  nodes: object({ nodes: array(mixed().nullable()).min(1).optional(), follow: boolean() }),
  metadata: object({ metadata: stringMap().optional(), each: mapOf(object({ id: string().required() })) }),
};

const VALUES = [
  {},
  { name: 'web*' },
  { name: 'a b' },
  { name: null },
  { name: 1 },
  { state: 'a' },
  { state: 'c' },
  { other: 1 },
  { unit_name: 'a.service' },
  { unit_name: 'a' },
  { unit_name: '' },
  { unit_name: 'a.service', lines: 9 },
  { unit_name: 'a.service', lines: 10 },
  { unit_name: 'a.service', lines: 1.5 },
  { unit_name: 'a.service', lines: Infinity },
  { nodes: [] },
  { nodes: [1, null, {}] },
  { nodes: 'a', follow: true },
  { follow: 'true' },
  { metadata: { a: 'b' } },
  { metadata: { a: 1 } },
  { metadata: [] },
  { each: { a: { id: 'x' } } },
  { each: { a: { id: '' } } },
  { each: { a: { id: 'x', more: 1 } } },
  [],
  'text',
  null,
  undefined,
];

for (const [name, given] of Object.entries(SCHEMAS)) {
  test(`the fast check decides as yup does: ${name}`, (t) => {
    const schema = strictSchema(given);
    const check = fastCheck(schema);
    for (const value of VALUES) t.is(check(value), yupAccepts(schema, value), JSON.stringify(value));
  });
}

test('whatever the fast check accepts, yup accepts, and it accepts all that yup does', (t) => {
  let accepted = 0;
  const property = fc.property(shapeAndValue, ([shape, value]) => {
    const schema = strictSchema(objectSchemaOf(shape));
    const expected = yupAccepts(schema, value);
    if (expected) accepted++;
    return fastCheck(schema)(value) === expected;
  });
  fc.assert(property, { numRuns: 1_000 });
  t.true(accepted > 100, `only ${accepted} were accepted`);
});

test('a test that needs more than the fast check has is left to yup', (t) => {
  const beside = object({
    from: number().required(),
    to: number().test('later', 'it is not later', (value, { parent }) => Number(value) > parent.from),
  });
  const reference = object({ from: number().required(), to: number().min(ref('from')) });
  for (const schema of [strictSchema(beside), strictSchema(reference)]) {
    t.true(yupAccepts(schema, { from: 1, to: 2 }));
    t.false(fastCheck(schema)({ from: 1, to: 2 }));
  }
});

test('a test that throws, or gives anything but true, is left to yup', (t) => {
  const throws = string().test('throws', 'no', () => {
    throw new Error('it throws');
  });
  const gives = (result: unknown) => string().test('gives', 'no', () => result as boolean);
  for (const schema of [throws, gives(Promise.resolve(true)), gives(1), gives(undefined)])
    t.false(fastCheck(strictSchema(object({ a: schema })))({ a: 'b' }));
});
