import test from 'ava';
import { RedeliveryMemory } from '../../src/rpc/redelivery-memory.js';
import { ManualClock } from '../support/manual-clock.js';

const bytes = (reply: string) => reply.length;

test('a finished answer is recalled until its time is up', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve('answer');
  memory.track('key', outcome, bytes);
  t.like(memory.recall('key'), { state: 'running' });
  await outcome;
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'answer' });
  clock.advance(1_001);
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('who asks while a request runs gets its answer when it ends', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  let finish: (reply: string) => void = () => {};
  memory.track('key', new Promise((resolve) => (finish = resolve)), bytes);
  const known = memory.recall('key');
  finish('answer');
  t.is(known.state === 'running' ? await known.reply : undefined, 'answer');
});

test('a request that never began is known as such, until it begins', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  const outcome = Promise.resolve(undefined);
  memory.track('key', outcome, bytes);
  await outcome;
  t.deepEqual(memory.recall('key'), { state: 'released' });
  memory.track('key', new Promise(() => {}), bytes);
  t.like(memory.recall('key'), { state: 'running' });
});

test('that a request never began is known for as long as an answer is', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve(undefined);
  memory.track('key', outcome, bytes);
  await outcome;
  clock.advance(1_001);
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('the oldest answers go when there are too many bytes or too many of them', async (t) => {
  const keep = async (limits: { maxBytes?: number; maxEntries?: number }) => {
    const memory = new RedeliveryMemory<string>(new ManualClock(), limits);
    for (let n = 0; n < 10; n++) {
      const outcome = Promise.resolve('x'.repeat(100));
      memory.track(String(n), outcome, bytes);
      await outcome;
    }
    return Array.from({ length: 10 }, (_, n) => memory.recall(String(n)).state === 'settled');
  };
  const lastFour = [...Array(6).fill(false), ...Array(4).fill(true)];
  t.deepEqual(await keep({ maxBytes: 400 }), lastFour);
  t.deepEqual(await keep({ maxEntries: 4 }), lastFour);
});

test('an answer that alone would fill much of the memory is not kept', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400 });
  const outcome = Promise.resolve('x'.repeat(101));
  memory.track('key', outcome, bytes);
  await outcome;
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});
