import test from 'ava';
import fc from 'fast-check';
import { LinkedList, Listed } from '../../src/lib/linked-list.js';

class Item extends Listed<Item> {
  readonly name: number;

  constructor(name: number) {
    super();
    this.name = name;
  }
}

const names = (list: LinkedList<Item>) => Array.from(list, ({ name }) => name);

test('a list has what a set would have, in the same order, after any changes', (t) => {
  const change = fc.record({ item: fc.nat(5), add: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const list = new LinkedList<Item>();
      const expected = new Set<number>();
      const items = Array.from({ length: 6 }, (_, name) => new Item(name));
      for (const { item, add } of changes) {
        const changed = items[item];
        if (changed === undefined) continue;
        if (!add) t.is(list.delete(changed), expected.delete(item));
        else if (!expected.has(item)) {
          list.add(changed);
          expected.add(item);
        }
        t.deepEqual(names(list), [...expected]);
        t.is(list.size, expected.size);
        t.is(list.first?.name, [...expected][0]);
      }
    }),
  );
});

test('while a list is read, what is deleted is left out, and so is what is added', (t) => {
  const list = new LinkedList<Item>();
  const items = [1, 2, 3].map((name) => new Item(name));
  for (const item of items) list.add(item);
  const read: number[] = [];
  for (const { name } of list) {
    read.push(name);
    for (const item of items.slice(0, 2)) list.delete(item);
    list.add(new Item(name + 10));
  }
  t.deepEqual(read, [1, 3]);
  t.deepEqual(names(list), [3, 11, 13]);
});

test('an item of another list is not deleted', (t) => {
  const [one, other] = [new LinkedList<Item>(), new LinkedList<Item>()];
  const item = new Item(1);
  one.add(item);
  t.false(other.delete(item));
  t.deepEqual(names(one), [1]);
  t.is(other.size, 0);
});

test('what is deleted keeps no other items in memory', (t) => {
  const list = new LinkedList<Item>();
  const items = [1, 2, 3].map((name) => new Item(name));
  for (const item of items) list.add(item);
  const [, deleted] = items;
  if (deleted !== undefined) list.delete(deleted);
  t.like(deleted, { previous: undefined, next: undefined });
});
