import test from 'ava';
import { LazyAbort } from '../../src/lib/lazy-abort.js';

test('a signal that is read before the abort is aborted with its reason', (t) => {
  const abort = new LazyAbort();
  const { signal } = abort;
  t.false(signal.aborted);
  t.false(abort.aborted);
  abort.abort(new Error('enough'));
  t.is(signal.reason.message, 'enough');
  t.true(abort.aborted);
});

test('a signal that is read after the abort is already aborted', (t) => {
  const abort = new LazyAbort();
  abort.abort('enough');
  t.true(abort.signal.aborted);
  t.is(abort.signal.reason, 'enough');
  t.is(abort.signal, abort.signal);
});

test('only the first reason counts', (t) => {
  const abort = new LazyAbort();
  abort.abort('first');
  abort.abort('second');
  t.is(abort.reason, 'first');
  t.is(abort.signal.reason, 'first');
});
