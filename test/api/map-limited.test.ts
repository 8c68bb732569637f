import test from 'ava';
import { mapLimited } from '../../src/plugin.js';

test('the results are in the order of the items, and only so many are worked on at the same time', async (t) => {
  const ends: (() => void)[] = [];
  const work = async (item: number) => {
    await new Promise<void>((resolve) => ends.push(resolve));
    return item * 10;
  };
  const results = mapLimited([1, 2, 3, 4, 5], 2, work);
  for (let ended = 0; ended < 5; ended++) {
    await new Promise(setImmediate);
    t.is(ends.length, Math.min(5, ended + 2));
    // The later one of two ends first.
    (ends[ended % 2 === 0 ? Math.min(ended + 1, 4) : ended - 1] ?? t.fail)();
  }
  t.deepEqual(await results, [10, 20, 30, 40, 50]);
});

test('the failure of one item is that of all', async (t) => {
  const work = async (item: number) => {
    if (item === 2) throw new Error('two failed');
    return item;
  };
  await t.throwsAsync(mapLimited([1, 2, 3], 3, work), { message: 'two failed' });
});

test('without items there is nothing to do', async (t) => {
  t.deepEqual(await mapLimited([], 3, async () => t.fail()), []);
});
