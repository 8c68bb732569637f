import test from 'ava';
import { KeyedMutex } from '../../src/lib/keyed-mutex.js';

const { signal } = new AbortController();

test('work on one key runs one after the other, and work on other keys in parallel', async (t) => {
  const mutex = new KeyedMutex();
  const events: string[] = [];
  const finish: (() => void)[] = [];
  const work = (name: string) => async () => {
    events.push(`${name} begins`);
    await new Promise<void>((resolve) => finish.push(resolve));
    events.push(`${name} ends`);
  };
  const all = [
    mutex.runExclusive('a', signal, work('a1')),
    mutex.runExclusive('a', signal, work('a2')),
    mutex.runExclusive('b', signal, work('b1')),
  ];
  await new Promise(setImmediate);
  t.deepEqual(events, ['a1 begins', 'b1 begins']);
  for (const each of finish) each();
  await new Promise(setImmediate);
  t.deepEqual(events.slice(2), ['a1 ends', 'b1 ends', 'a2 begins']);
  for (const each of finish) each();
  await Promise.all(all);
  t.is(events.at(-1), 'a2 ends');
});

test('work that fails does not block the next', async (t) => {
  const mutex = new KeyedMutex();
  const failing = mutex.runExclusive('a', signal, async () => Promise.reject(new Error('it failed')));
  const next = mutex.runExclusive('a', signal, async () => 'done');
  await t.throwsAsync(failing, { message: 'it failed' });
  t.is(await next, 'done');
});

test('work whose signal is aborted while it waits is not run, and the next waits for the one before', async (t) => {
  const mutex = new KeyedMutex();
  let finish: () => void = () => {};
  const first = mutex.runExclusive('a', signal, () => new Promise<void>((resolve) => (finish = resolve)));
  const leaving = new AbortController();
  const second = mutex.runExclusive('a', leaving.signal, async () => t.fail('it ran'));
  let ran = false;
  const third = mutex.runExclusive('a', signal, async () => {
    ran = true;
  });
  leaving.abort(new Error('enough'));
  await t.throwsAsync(second, { message: 'enough' });
  await new Promise(setImmediate);
  t.false(ran);
  finish();
  await Promise.all([first, third]);
  t.true(ran);
});

test('work that comes after aborted waiting work waits for the running work too', async (t) => {
  const mutex = new KeyedMutex();
  let finish: () => void = () => {};
  const first = mutex.runExclusive('a', signal, () => new Promise<void>((resolve) => (finish = resolve)));
  const leaving = new AbortController();
  const second = mutex.runExclusive('a', leaving.signal, async () => t.fail('it ran'));
  leaving.abort(new Error('enough'));
  await t.throwsAsync(second, { message: 'enough' });
  let ran = false;
  const third = mutex.runExclusive('a', signal, async () => {
    ran = true;
  });
  t.is(mutex.count('a'), 2);
  await new Promise(setImmediate);
  t.false(ran);
  finish();
  await Promise.all([first, third]);
  t.true(ran);
  t.is(mutex.count('a'), 0);
});
