import test from 'ava';
import fc from 'fast-check';
import { parseExactly, stringifyExactly } from '../../src/lib/exact-json.js';

test('integers beyond the range of a number are read and written digit by digit', (t) => {
  const text =
    '{"id":9007199254740993,"list":[-123456789012345678901234567890,12],"text":"9007199254740993"}';
  const value = parseExactly(text);
  t.deepEqual(value, {
    id: 9007199254740993n,
    list: [-123456789012345678901234567890n, 12],
    text: '9007199254740993',
  });
  t.is(stringifyExactly(value as object), text);
});

test('a number that is represented exactly stays a number, whatever surrounds it', (t) => {
  t.deepEqual(parseExactly('[9007199254740991, 1234567890123456.5, 1.50000000000000000e10, 1e400, -0]'), [
    9007199254740991,
    1234567890123456.5,
    1.5e10,
    Infinity,
    -0,
  ]);
});

test('digits in texts and keys are left alone, whatever quotes and backslashes precede them', (t) => {
  for (const text of ['12345678901234567890', '"12345678901234567890', '\\"12345678901234567890', '\\']) {
    const value = { [text]: text, id: 12345678901234567890n };
    t.deepEqual(parseExactly(stringifyExactly(value)), value);
  }
});

test('many digits in a text do not change the numbers beside it', (t) => {
  const texts = ['"1234567890123456"', '"1\\"1234567890123456"', '"12345678901234567"'];
  const numbers = ['12345678901234567', '-12345678901234567', '1234567890123456', '12345678901234567.0', '7'];
  for (const text of texts)
    for (const number of numbers)
      for (const json of [`[${text},${number}]`, `[${number},${text}]`, `{${text}:${number},"b":${text}}`]) {
        const expected = numbers.indexOf(number) < 2 ? BigInt(number) : Number(number);
        const value: unknown = parseExactly(json);
        t.true(Object.values(value as object).includes(expected), json);
        t.true(Object.values(value as object).includes(JSON.parse(text)) || json.startsWith('{'), json);
      }
});

test('invalid JSON is refused, and so is a number that is absurdly long', (t) => {
  for (const text of [
    '',
    '{"id": 01234567890123456789}',
    '12345678901234567890x',
    '"1234567890123456',
    '1234567890123456"',
    `[${'1'.repeat(2_000)}]`,
  ])
    t.throws(() => parseExactly(text), { instanceOf: SyntaxError }, text.slice(0, 30));
});

test('an integer has at most 64 bytes, both ways', (t) => {
  const largest = 2n ** 512n - 1n;
  const message = 'an integer has more than 64 bytes';
  for (const sign of [1n, -1n]) {
    t.is(parseExactly(stringifyExactly(sign * largest)), sign * largest);
    for (const larger of [sign * (largest + 1n), sign * 10n ** 155n]) {
      t.throws(() => stringifyExactly({ n: larger }), { instanceOf: RangeError, message });
      t.throws(() => parseExactly(`[${larger}]`), { instanceOf: SyntaxError, message });
    }
  }
});

test('__proto__ is an ordinary key', (t) => {
  const value = parseExactly('{"__proto__":{"id":12345678901234567890}}');
  t.deepEqual(Object.keys(value as object), ['__proto__']);
});

test('every written value is read back the same', (t) => {
  const json = fc.json({ maxDepth: 4 }).map((text): unknown => JSON.parse(text));
  const integers = fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n });
  fc.assert(
    fc.property(fc.array(fc.oneof(json, integers, fc.string())), (list) => {
      const read = parseExactly(stringifyExactly(list));
      t.deepEqual(
        read,
        list.map((each) =>
          typeof each === 'bigint' && Number.isSafeInteger(Number(each)) ? Number(each) : normal(each),
        ),
      );
    }),
    { numRuns: 300 },
  );
});

function normal(value: unknown): unknown {
  if (typeof value === 'bigint') return value;
  return parseExactly(JSON.stringify(value));
}
