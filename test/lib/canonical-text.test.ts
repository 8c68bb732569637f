import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import { canonicalText } from '../../src/lib/canonical-text.js';

const LIMIT = 10_000;
const textOf = (value: unknown) => canonicalText(value, LIMIT);

/** Few different values, so that many of them are equal. */
const leaf = fc.constantFrom<unknown>(
  null,
  undefined,
  true,
  false,
  0,
  -0,
  1,
  1n,
  NaN,
  '',
  '1',
  '1n',
  'null',
  '{}',
  '","',
);
const { plain } = fc.letrec<{ plain: unknown }>((tie) => ({
  plain: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    leaf,
    fc.array(tie('plain'), { maxLength: 2 }),
    fc.dictionary(fc.constantFrom('a', 'b', '"a":'), tie('plain'), { maxKeys: 2, noNullPrototype: true }),
  ),
}));

test('values have the same text only when they are equal', (t) => {
  fc.assert(
    fc.property(plain, plain, (one, other) => {
      return (textOf(one) === textOf(other)) === isDeepStrictEqual(one, other);
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

test('the order of keys does not matter, at any level', (t) => {
  t.is(textOf({ a: 1, b: { c: [], d: 'x' } }), textOf({ b: { d: 'x', c: [] }, a: 1 }));
  t.is(textOf({ a: 1 }), textOf(Object.assign(Object.create(null), { a: 1 })));
  t.not(textOf([1, 2]), textOf([2, 1]));
});

test('what is not plain data has no text', (t) => {
  for (const value of [
    new Date(0),
    Buffer.from('a'),
    new Map(),
    () => {},
    Symbol('a'),
    new URL('http://a'),
  ]) {
    t.is(textOf(value), undefined);
    t.is(textOf({ a: [value] }), undefined);
  }
});

test('a value whose text would be too long has none', (t) => {
  t.is(canonicalText('abc', 5), '"abc"');
  t.is(canonicalText('abcd', 5), undefined);
  t.is(canonicalText({ a: 'x'.repeat(100) }, 99), undefined);
  t.is(canonicalText(Array(100).fill(0), 99), undefined);
  t.is(canonicalText({ ['x'.repeat(100)]: 0 }, 99), undefined);
});
