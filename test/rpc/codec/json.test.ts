import test from 'ava';
import { DecodeError } from '../../../src/rpc/codec/codec.js';
import { jsonCodec } from '../../../src/rpc/codec/json.js';

test('whole numbers keep every digit, both ways', (t) => {
  const json = '{"id":9007199254740993,"list":[18446744073709551616,-9007199254740993,3,1.5]}';
  const value = { id: 9_007_199_254_740_993n, list: [2n ** 64n, -9_007_199_254_740_993n, 3, 1.5] };
  t.deepEqual(jsonCodec.decode(Buffer.from(json)), value);
  t.is(jsonCodec.encode(value).toString(), json);
});

test('what is not JSON is refused, without quoting it', (t) => {
  for (const body of ['{"secret": "sesame"', `{"n": ${'1'.repeat(2_000)}}`]) {
    const error = t.throws(() => jsonCodec.decode(Buffer.from(body)), { instanceOf: DecodeError });
    t.is(error?.message, 'not valid JSON');
  }
});
