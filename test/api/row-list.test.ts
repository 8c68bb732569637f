import test from 'ava';
import { partOf, RowList, withoutRowList } from '../../src/api/row-list.js';

interface Row {
  n: number;
}

/** A list of three rows a part. */
function listOf(count: number): RowList<Row> {
  const texts = Array.from({ length: count }, (_, n) => JSON.stringify({ n }));
  const parts = Array.from({ length: Math.ceil(count / 3) }, (_, part) =>
    partOf(texts.slice(3 * part, 3 * part + 3)),
  );
  return new RowList(parts);
}

const numbersOf = (rows: readonly Row[]) => rows.map(({ n }) => n);

test('a filtered list has the rows that are kept, in their order', async (t) => {
  const even = await listOf(20).filter(({ n }) => n % 2 === 0);
  t.is(even.length, 10);
  t.deepEqual(numbersOf(even.toJSON()), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
  const none = await listOf(20).filter(() => false);
  t.deepEqual([none.length, none.toJSON(), none.parts], [0, [], []]);
});

test('its rows are new objects each time', async (t) => {
  const list = listOf(4);
  for (const row of await list.toArray()) row.n = -1;
  t.deepEqual(numbersOf(await list.toArray()), [0, 1, 2, 3]);
});

test('other work gets a turn between two parts', async (t) => {
  let turns = 0;
  let done = false;
  const count = () => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  await listOf(30).toArray();
  done = true;
  t.true(turns >= 9, `${turns} turns for 10 parts`);
});

test('as a value it is its rows, and other values are themselves', (t) => {
  t.deepEqual(
    withoutRowList(listOf(7)),
    Array.from({ length: 7 }, (_, n) => ({ n })),
  );
  t.deepEqual(withoutRowList(listOf(0)), []);
  const other = { rows: [1] };
  t.is(withoutRowList(other), other);
});
