import test from 'ava';
import { MemoryBudget, type Reclaimable, type Share } from '../../src/rpc/memory-budget.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

const LIMIT = 100;
const NEVER = new AbortController().signal;

/** Memory of one block that is given up as a whole. */
function block(bytes: number): Reclaimable {
  const memory = { bytes, evict: () => void (memory.bytes = 0) };
  return memory;
}

function open(reclaimable = block(0)) {
  const { log, find } = logLines();
  const clock = new ManualClock();
  const budget = new MemoryBudget({ limit: LIMIT, reclaimable, clock, log });
  const order: string[] = [];
  /** A message that asks for room; its name is added to `order` when it has got it. */
  const message = (name: string, more: number, { body = 0, signal = NEVER } = {}): Share => {
    const share = budget.take(body);
    void budget.grow(share, more, signal).then(
      () => order.push(name),
      (error: unknown) => order.push(`${name}: ${String(error)}`),
    );
    return share;
  };
  return { budget, clock, find, order, message };
}

/** Lets settled promises call their handlers. */
const settled = async () => new Promise(setImmediate);

test('messages get room as long as they fit, and then wait in their order', async (t) => {
  const { budget, order, message } = open();
  const first = message('first', 60);
  const second = message('second', 60);
  const third = message('third', 1);
  await settled();
  t.deepEqual(order, ['first'], 'a small message does not overtake a large one that waits');
  budget.release(first);
  await settled();
  t.deepEqual(order, ['first', 'second', 'third']);
  t.is(budget.used, 61);
  t.is(budget.free, LIMIT - 61);
  budget.release(second);
  budget.release(third);
  t.is(budget.used, 0);
});

test('bodies that have arrived count, though they may exceed the limit', async (t) => {
  const { budget, order, message } = open();
  const first = message('first', 10, { body: 80 });
  message('second', 10, { body: 80 });
  await settled();
  t.is(budget.used, 170);
  t.deepEqual(order, ['first']);
  budget.release(first);
  await settled();
  t.deepEqual(order, ['first', 'second']);
});

test('the first message gets room in any case, so that there is always progress', async (t) => {
  const { budget, order, message } = open();
  const shares = ['first', 'second', 'third'].map((name) => message(name, 2 * LIMIT, { body: LIMIT }));
  for (const [done, share] of shares.entries()) {
    await settled();
    t.is(order.length, done + 1);
    budget.release(share);
  }
  t.deepEqual(order, ['first', 'second', 'third']);
  t.is(budget.used, 0);
});

test('a message that only waits to be dead-lettered holds up no other', async (t) => {
  const { budget, order, message } = open();
  const invalid = message('invalid', 10, { body: LIMIT });
  message('other', 10);
  await settled();
  t.deepEqual(order, ['invalid']);
  budget.giveRoomBack(invalid, LIMIT);
  await settled();
  t.deepEqual(order, ['invalid', 'other']);
  t.is(budget.used, LIMIT + 10);
});

test('a message that turns out smaller makes room at once', async (t) => {
  const { budget, order, message } = open();
  const first = message('first', 90);
  message('second', 90);
  budget.resize(first, 10);
  await settled();
  t.deepEqual(order, ['first', 'second']);
});

test('what can be given up gives way before a message waits', async (t) => {
  const remembered = block(80);
  const { budget, order, message } = open(remembered);
  message('first', 20);
  await settled();
  t.is(remembered.bytes, 80, 'both fit');
  message('second', 20);
  await settled();
  t.deepEqual(order, ['first', 'second']);
  t.is(budget.used, 40);
});

test('what can be given up also gives way to a body that has arrived', (t) => {
  const { budget } = open(block(80));
  budget.take(50);
  t.is(budget.used, 50);
});

test('a message that stops waiting gets no room, and lets the next one in', async (t) => {
  const { order, message } = open();
  const lost = new AbortController();
  message('first', 60);
  message('second', 60, { signal: lost.signal });
  message('third', 40);
  lost.abort(new Error('lost'));
  await settled();
  t.deepEqual(order, ['first', 'second: Error: lost', 'third']);
});

test('a message whose signal is aborted already does not wait', async (t) => {
  const { order, message } = open();
  message('first', LIMIT);
  message('second', LIMIT, { signal: AbortSignal.abort(new Error('lost')) });
  await settled();
  t.deepEqual(order, ['first', 'second: Error: lost']);
});

test('a budget that is used up is logged once as an outage, which ends at half of the limit', async (t) => {
  const { budget, clock, find, message } = open();
  const shares = Array.from({ length: 4 }, (_, n) => message(String(n), 40));
  t.deepEqual(
    find(/^memory budget used up$/).map(({ used, limit }) => [used, limit]),
    [[80, LIMIT]],
  );
  clock.advance(2_000);
  for (const share of shares.slice(0, 2)) budget.release(share);
  t.is(find(/^memory budget free again$/).length, 0, 'none waits, but 80 are used');
  for (const share of shares.slice(2)) budget.release(share);
  t.is(find(/^memory budget used up$/).length, 1);
  t.like(find(/^memory budget free again$/)[0], { lasted_ms: 2_000, failures: 2 });
});
