import test from 'ava';
import * as fc from 'fast-check';
import { rowListOf, storedRows } from '../../../src/clusters/fleet/stored-rows.js';

const keyOf = ({ name }: { name: string }) => name;
const page = fc.array(fc.record({ name: fc.string({ unit: 'binary' }), value: fc.jsonValue() }), {
  maxLength: 8,
});

test('any selection of stored rows is a list of these rows, in this order', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(page, { maxLength: 5 }), fc.infiniteStream(fc.nat()), async (pages, random) => {
      // As they come back from JSON, which has no -0.
      const rows: typeof pages = JSON.parse(JSON.stringify(pages));
      const stored = rows.flatMap((each) => storedRows(each, keyOf));
      const all = rows.flat();
      const chosen = all.flatMap((_, index) => ((random.next().value ?? 0) % 3 === 0 ? [] : [index]));
      const list = rowListOf(chosen.flatMap((index) => stored.slice(index, index + 1)));
      t.deepEqual(
        stored.map(({ key }) => key),
        all.map(keyOf),
      );
      const expected = chosen.map((index) => all[index]);
      t.is(list.length, expected.length);
      t.deepEqual(list.toJSON(), expected);
      t.deepEqual(await list.toArray(), expected);
    }),
  );
});

test('rows that are neighbours in their page are one part of the list', (t) => {
  const abc = storedRows([{ name: 'a' }, { name: 'b' }, { name: 'c' }], keyOf);
  const d = storedRows([{ name: 'd' }], keyOf);
  const partsOf = (rows: typeof d) =>
    rowListOf(rows).parts.map(({ json, rows: count }) => [json.toString(), count]);
  t.deepEqual(partsOf(abc), [['{"name":"a"},{"name":"b"},{"name":"c"}', 3]]);
  t.deepEqual(partsOf([...abc.slice(0, 1), ...abc.slice(2), ...d]), [
    ['{"name":"a"}', 1],
    ['{"name":"c"}', 1],
    ['{"name":"d"}', 1],
  ]);
  t.deepEqual(partsOf([]), []);
});
