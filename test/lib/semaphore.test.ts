import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { Semaphore } from '../../src/lib/semaphore.js';

const { signal } = new AbortController();

test('permits are granted in the order of the requests', async (t) => {
  const semaphore = new Semaphore(1);
  const order: number[] = [];
  const release = await semaphore.acquire(signal);
  const waiting = [1, 2, 3].map(async (n) => {
    const done = await semaphore.acquire(signal);
    order.push(n);
    done();
  });
  t.deepEqual(order, []);
  release();
  release();
  await Promise.all(waiting);
  t.deepEqual(order, [1, 2, 3]);
});

test('a permit that is released twice is free once', async (t) => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.acquire(signal);
  release();
  release();
  await semaphore.acquire(signal);
  let granted = false;
  void semaphore.acquire(signal).then(() => (granted = true));
  await setImmediate();
  t.false(granted);
});

test('a caller whose signal is aborted while it waits gets no permit, and uses none', async (t) => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.acquire(signal);
  const leaving = new AbortController();
  const waiting = semaphore.acquire(leaving.signal);
  leaving.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
  release();
  await semaphore.acquire(signal);
  await t.throwsAsync(semaphore.acquire(leaving.signal), { message: 'enough' });
});
