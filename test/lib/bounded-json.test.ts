import test, { type ExecutionContext } from 'ava';
import * as fc from 'fast-check';
import { parseBounded } from '../../src/lib/bounded-json.js';
import { parseExactly } from '../../src/lib/exact-json.js';

const MANY = { maxElements: 1_000 };

function parse(json: string, limits = MANY): unknown {
  return parseBounded(Buffer.from(json), limits);
}

function isRefused(t: ExecutionContext, json: string, message: string, limits = MANY): void {
  t.throws(() => parse(json, limits), { instanceOf: SyntaxError, message }, json.slice(0, 50));
}

/** The number of values and keys. */
function elementsOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1;
  const keys = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce<number>((sum, each) => sum + elementsOf(each), 1 + keys);
}

test('JSON is parsed exactly as far as its values and keys are within the limit', (t) => {
  const anyJson = fc.json({ maxDepth: 5 });
  const spaces = fc.constantFrom<(string | number)[]>('', ' ', '\t', 2);
  fc.assert(
    fc.property(anyJson, spaces, (json, indent) => {
      const value: unknown = JSON.parse(json);
      const text = JSON.stringify(value, null, indent);
      const elements = elementsOf(value);
      t.deepEqual(parse(text, { maxElements: elements }), parseExactly(text));
      if (elements > 1)
        isRefused(t, text, `it has more than ${elements - 1} values and keys`, { maxElements: elements - 1 });
    }),
    { numRuns: 500 },
  );
});

test('a number may have 155 digits, whatever its form, and an integer 64 bytes', (t) => {
  const digits = '9'.repeat(155);
  const largest = 2n ** 512n - 1n;
  t.deepEqual(parse(`[${largest}, -${largest}, 1.${'5'.repeat(155)}]`), [largest, -largest, 14 / 9]);
  for (const integer of [largest + 1n, -largest - 1n, BigInt(digits)])
    isRefused(t, `{"a":[${integer}]}`, 'an integer has more than 64 bytes');
  for (const long of [`9${digits}`, `-9${digits}`, `0.9${digits}`, `1e9${digits}`, `{"a":[9${digits}]}`])
    isRefused(t, long, 'a number has more than 155 digits');
});

test('digits in a text are no number, also after escapes', (t) => {
  for (const text of ['9'.repeat(1_000), `"${'9'.repeat(1_000)}`, `\\${'9'.repeat(1_000)}`, '1e999'])
    t.deepEqual(parse(JSON.stringify([text, { [text]: 1 }])), [text, { [text]: 1 }]);
});

test('a number that would become infinite is refused, at every level', (t) => {
  for (const json of ['1e999', '-1E+999', '{"a":[0,{"b":1e400}]}', '1e0000000309', '123456789e301'])
    isRefused(t, json, 'a number is beyond the range of JavaScript numbers');
  t.deepEqual(parse('[1e308, 1e-999, -1e+100, 1.5e0003]'), [1e308, 0, -1e100, 1500]);
});

test('JSON that is not valid is refused without being quoted', (t) => {
  for (const json of ['', '{', '{"secret"', 'sesame', '[1,]', '01', '[1e]', '"\\x"'])
    isRefused(t, json, 'not valid JSON');
  t.throws(() => parseBounded(Buffer.from([0x22, 0xff, 0x22]), MANY), { message: 'not valid UTF-8' });
});

test('__proto__ is an ordinary key', (t) => {
  const value = parse('{"__proto__":{"a":1}}');
  t.deepEqual(Object.keys(value as object), ['__proto__']);
  t.is(({} as { a?: number }).a, undefined);
});

test('any bytes give a value or a SyntaxError', (t) => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    '"',
    '\\',
    ',',
    ':',
    '1',
    '-',
    'e999',
    '.5',
    ' ',
    'null',
    'é',
  );
  const nearly = fc.array(pieces, { maxLength: 200 }).map((each) => Buffer.from(each.join('')));
  fc.assert(
    fc.property(fc.oneof(nearly, fc.uint8Array({ maxLength: 200 })), (bytes) => {
      try {
        parseBounded(bytes, MANY);
      } catch (error) {
        t.true(error instanceof SyntaxError, String(error));
      }
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});
