import test from 'ava';
import fc from 'fast-check';
import { LinkedList, type Place } from '../../src/lib/linked-list.js';

test('a list has what a set would have, in the same order, after any changes', (t) => {
  const change = fc.record({ item: fc.nat(5), add: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const list = new LinkedList<number>();
      const expected = new Set<number>();
      const places = new Map<number, Place>();
      for (const { item, add } of changes) {
        if (!add) t.is(places.get(item)?.leave() ?? false, expected.delete(item));
        else if (!expected.has(item)) {
          places.set(item, list.add(item));
          expected.add(item);
        }
        t.deepEqual([...list], [...expected]);
        t.is(list.size, expected.size);
        t.is(list.first, [...expected][0]);
      }
    }),
  );
});

test('while a list is read, what leaves it is left out, and so is what is added', (t) => {
  const list = new LinkedList<number>();
  const places = [1, 2, 3].map((item) => list.add(item));
  const read: number[] = [];
  for (const item of list) {
    read.push(item);
    for (const place of places.slice(0, 2)) place.leave();
    list.add(item + 10);
  }
  t.deepEqual(read, [1, 3]);
  t.deepEqual([...list], [3, 11, 13]);
});

test('what has left a list keeps nothing else in memory', (t) => {
  const list = new LinkedList<number>();
  const [, second] = [1, 2, 3].map((item) => list.add(item));
  t.true(second?.leave());
  t.like(second, { list: undefined, previous: undefined, next: undefined });
});
