import test from 'ava';
import { WaitQueue } from '../../src/lib/wait-queue.js';

const { signal } = new AbortController();

test('each waiter waits until it is resumed, and the oldest comes first', async (t) => {
  const queue = new WaitQueue<string>();
  const resumed: string[] = [];
  const waits = ['a', 'b', 'c'].map(async (name) => {
    await queue.wait(name, signal);
    resumed.push(name);
  });
  t.deepEqual([...queue.waiters], ['a', 'b', 'c']);
  queue.resume('b');
  queue.resume('unknown');
  t.deepEqual([...queue.waiters], ['a', 'c']);
  queue.resume('a');
  queue.resume('c');
  await Promise.all(waits);
  t.deepEqual(resumed, ['b', 'a', 'c']);
  t.is(queue.size, 0);
});

test('a waiter whose signal is aborted leaves with the reason, and nothing of it is kept', async (t) => {
  const queue = new WaitQueue<string>();
  const stop = new AbortController();
  const waits = queue.wait('a', stop.signal);
  stop.abort(new Error('nobody waits any more'));
  t.is(queue.size, 0);
  await t.throwsAsync(waits, { message: 'nobody waits any more' });
  await t.throwsAsync(queue.wait('b', stop.signal), { message: 'nobody waits any more' });
  t.is(queue.size, 0);
});
