import { getEventListeners } from 'node:events';
import test from 'ava';
import { untilAborted } from '../../src/lib/until-aborted.js';
import { warningsDuring } from '../support/warnings.js';

const never = new Promise<string>(() => {});

test('a promise that settles first gives the result', async (t) => {
  const { signal } = new AbortController();
  t.is(await untilAborted(Promise.resolve('done'), signal), 'done');
  await t.throwsAsync(untilAborted(Promise.reject(new Error('it failed')), signal), { message: 'it failed' });
});

test('a signal that is aborted first rejects with its reason', async (t) => {
  const leaving = new AbortController();
  const waiting = untilAborted(never, leaving.signal);
  leaving.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
  await t.throwsAsync(untilAborted(Promise.resolve('done'), leaving.signal), { message: 'enough' });
});

test('a failure after the abort is not an unhandled rejection', async (t) => {
  const leaving = new AbortController();
  let fail = (_error: Error) => {};
  const work = new Promise<never>((_resolve, reject) => (fail = reject));
  const waiting = untilAborted(work, leaving.signal);
  leaving.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
  fail(new Error('too late'));
  await new Promise(setImmediate);
});

test('any number of callers may wait on one signal, and no listener is left afterwards', async (t) => {
  const { signal } = new AbortController();
  const warnings = await warningsDuring(async () =>
    Promise.all(Array.from({ length: 20 }, () => untilAborted(new Promise(setImmediate), signal))),
  );
  t.deepEqual(warnings, []);
  t.is(getEventListeners(signal, 'abort').length, 0);
});
