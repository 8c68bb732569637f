import test from 'ava';
import * as fc from 'fast-check';
import { parseBounded } from '../../src/lib/bounded-json.js';
import { TermReader } from '../../src/rpc/codec/erlang-decode.js';
import { encodeTerm } from '../../src/rpc/codec/erlang-encode.js';
import { erlangLimits } from '../../src/rpc/codec/erlang-limits.js';
import { StringCache } from '../../src/rpc/codec/erlang-string-cache.js';
import { memoryOf, memoryToDecode } from '../../src/lib/decoded-memory.js';
import { collectGarbage } from '../support/collect-garbage.js';

const ITEMS = 20_000;
const MEBIBYTE = 1024 * 1024;

async function heapUsed(): Promise<number> {
  for (let turns = 0; turns < 4; turns++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  return process.memoryUsage().heapUsed;
}

const list = (item: (n: number) => unknown) => Array.from({ length: ITEMS }, (_, n) => item(n));

// The forms that take most of the heap for each byte of a message.
const COSTLY: readonly (readonly [what: string, value: unknown])[] = [
  ['empty maps', list(() => ({}))],
  ['empty lists', list(() => [])],
  ['lists of one item', list(() => [1.5])],
  ['maps with a key of their own', list((n) => ({ [`key ${n}`]: n }))],
  ['maps with a numeric key of their own', list((n) => ({ [String(4e9 + n)]: n }))],
  ['one map of many keys', Object.fromEntries(list((n) => [`key ${n}`, n]) as [string, number][])],
  ['large integers', list((n) => 2n ** 500n + BigInt(n))],
  ['texts beyond Latin-1', list((n) => `${n}${'€'.repeat(50)}`)],
];

for (const [what, value] of COSTLY) {
  const term = encodeTerm(value);
  const forms: (readonly [form: string, body: Buffer, decode: (body: Buffer) => unknown])[] = [
    ['an Erlang term', term, (body) => new TermReader(body, erlangLimits(), new StringCache()).read()],
  ];
  // JSON.stringify has no form for large integers.
  if (what !== 'large integers')
    forms.push([
      'JSON',
      Buffer.from(JSON.stringify(value)),
      (body) => parseBounded(body, { maxElements: 100_000 }),
    ]);
  for (const [form, body, decode] of forms) {
    test.serial(`${what} of ${form} take no more heap than they are counted for`, async (t) => {
      const kept = { value: decode(body) };
      kept.value = undefined;
      const before = await heapUsed();
      kept.value = decode(body);
      const grown = (await heapUsed()) - before;
      t.true(grown > 0, 'it is in memory');
      t.true(memoryOf(kept.value) > grown, `${memoryOf(kept.value)} for ${grown}`);
      t.true(memoryToDecode(body.length) > grown + body.length, `${memoryToDecode(body.length)} before`);
    });
  }
}

test.serial('what is counted before a message is decoded is never less than what is counted after', (t) => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      for (const body of [Buffer.from(JSON.stringify(value)), encodeTerm(value)])
        t.true(memoryToDecode(body.length) >= memoryOf(value), JSON.stringify(value));
    }),
    { numRuns: 1_000 },
  );
});

test.serial('a message of 1 MiB is counted with less than 32 MiB', (t) => {
  t.true(memoryToDecode(MEBIBYTE) < 32 * MEBIBYTE);
});
