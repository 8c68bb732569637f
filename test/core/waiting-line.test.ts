import test from 'ava';
import fc from 'fast-check';
import { WaitingLine } from '../../src/core/waiting-line.js';

/** Takes out all. */
function drained<T>(line: WaitingLine<T>): T[] {
  const items: T[] = [];
  for (let size = line.size; size > 0; size--) {
    const item = line.takeFirst();
    if (item !== undefined) items.push(item);
  }
  return items;
}

const entries = fc.array(fc.option(fc.integer({ min: 0, max: 255 }), { nil: undefined }));

test('those with a higher priority come first, and the others in their order', (t) => {
  fc.assert(
    fc.property(entries, (priorities) => {
      const line = new WaitingLine<number>();
      for (const [item, priority] of priorities.entries()) line.add(item, priority);
      const inOrder = [...priorities.keys()].toSorted(
        (a, b) => (priorities[b] ?? 0) - (priorities[a] ?? 0) || a - b,
      );
      t.deepEqual(drained(line), inOrder);
    }),
  );
});

test('what was deleted does not come, and is deleted once', (t) => {
  fc.assert(
    fc.property(entries, fc.nat(), (priorities, step) => {
      const line = new WaitingLine<number>();
      for (const [item, priority] of priorities.entries()) line.add(item, priority);
      const leaves = (item: number) => item % (step + 1) === 0;
      for (const item of [...priorities.keys()].filter(leaves)) {
        t.true(line.delete(item));
        t.false(line.delete(item));
      }
      const left = [...priorities.keys()].filter((item) => !leaves(item));
      t.is(line.size, left.length);
      t.deepEqual(
        drained(line).toSorted((a, b) => a - b),
        left,
      );
    }),
  );
});
