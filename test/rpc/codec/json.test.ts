import test from 'ava';
import { DecodeError } from '../../../src/rpc/codec/codec.js';
import { jsonCodec, jsonRequestCodec } from '../../../src/rpc/codec/json.js';

test('integers keep every digit, both ways', (t) => {
  const json = '{"id":9007199254740993,"list":[18446744073709551616,-9007199254740993,3,1.5]}';
  const value = { id: 9_007_199_254_740_993n, list: [2n ** 64n, -9_007_199_254_740_993n, 3, 1.5] };
  t.deepEqual(jsonCodec.decode(Buffer.from(json)), value);
  t.is(jsonCodec.encode(value).toString(), json);
});

test('invalid JSON is refused without quoting it', (t) => {
  const error = t.throws(() => jsonCodec.decode(Buffer.from('{"secret": "sesame"')), {
    instanceOf: DecodeError,
  });
  t.is(error?.message, 'not valid JSON');
});

test('brackets nest at most a hundred levels deep', (t) => {
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const nested = (depth: number) => Buffer.from(`${open.repeat(depth - 1)}[]${close.repeat(depth - 1)}`);
    t.notThrows(() => jsonCodec.decode(nested(100)));
    t.throws(() => jsonCodec.decode(nested(101)), {
      instanceOf: DecodeError,
      message: 'nested more than 100 levels deep',
    });
  }
});

test('adjacent brackets do not count as nested', (t) => {
  const pairs = Array.from({ length: 200 }, () => [{}]);
  t.deepEqual(jsonCodec.decode(Buffer.from(JSON.stringify(pairs))), pairs);
});

test('brackets in texts do not count as nesting, also after escapes', (t) => {
  const brackets = '[{'.repeat(100);
  for (const text of [
    brackets,
    `"${brackets}`,
    `\\${brackets}`,
    `\\"${brackets}`,
    `\\\\${brackets}"`,
    `\n\u0001"\\"${brackets}`,
  ]) {
    const value = { [text]: [text, text] };
    t.deepEqual(jsonCodec.decode(Buffer.from(JSON.stringify(value))), value);
  }
});

test('brackets after a string count as nesting, also when it ends with an escape', (t) => {
  for (const text of ['', '"', '\\', '\\"', '"\\']) {
    const body = `[${JSON.stringify(text)},${'['.repeat(100)}${']'.repeat(100)}]`;
    t.throws(() => jsonCodec.decode(Buffer.from(body)), { message: /^nested/ }, text);
  }
});

test('JSON is recognised by an opening brace after white space', (t) => {
  for (const body of ['{', ' {', '\t\r\n {']) t.true(jsonCodec.recognises(Buffer.from(body)), body);
  for (const body of ['', ' ', '[', '"{', '\v{', '\uFEFF{'])
    t.false(jsonCodec.recognises(Buffer.from(body)), body);
});

test('invalid UTF-8 is refused as such', (t) => {
  t.throws(() => jsonCodec.decode(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), {
    instanceOf: DecodeError,
    message: 'not valid UTF-8',
  });
});

test('a request has at most 100,000 values and keys, a reply any number', (t) => {
  const list = (items: number) => Buffer.from(`[${Array(items).fill('1').join()}]`);
  t.notThrows(() => jsonRequestCodec.decode(list(99_999)));
  t.throws(() => jsonRequestCodec.decode(list(100_000)), {
    instanceOf: DecodeError,
    message: 'it has more than 100000 values and keys',
  });
  t.notThrows(() => jsonCodec.decode(list(100_000)));
});

test('the plain size of JSON is its size', (t) => {
  t.is(jsonCodec.plainSize(Buffer.from('{"a":1}')), 7);
});
