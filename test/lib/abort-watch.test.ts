import { getEventListeners } from 'node:events';
import test from 'ava';
import { AbortWatch } from '../../src/lib/abort-watch.js';

test('a signal that was added often has one listener, and is called back for once', (t) => {
  const aborted: unknown[] = [];
  const watch = new AbortWatch(({ reason }) => aborted.push(reason));
  const controller = new AbortController();
  for (let n = 0; n < 100; n++) watch.add(controller.signal);
  t.is(getEventListeners(controller.signal, 'abort').length, 1);
  controller.abort('lost');
  controller.abort('again');
  t.deepEqual(aborted, ['lost']);
});

test('each signal is called back for when it is aborted itself', (t) => {
  const aborted: unknown[] = [];
  const watch = new AbortWatch(({ reason }) => aborted.push(reason));
  const [one, other] = [new AbortController(), new AbortController()];
  watch.add(one.signal);
  watch.add(other.signal);
  other.abort('lost');
  t.deepEqual(aborted, ['lost']);
});
