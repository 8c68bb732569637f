import { getEventListeners } from 'node:events';
import test from 'ava';
import { runWithin, type TimeLimit } from '../../src/lib/time-limit.js';
import { untilAborted } from '../../src/lib/until-aborted.js';
import { ManualClock } from '../support/manual-clock.js';
import { warningsDuring } from '../support/warnings.js';

/** Work that only waits for its signal. */
const endless = (signal: AbortSignal) => untilAborted(new Promise<never>(() => {}), signal);

function limit(more: Partial<TimeLimit> = {}): TimeLimit & { clock: ManualClock } {
  return { ms: 1_000, reason: () => new Error('too late'), ...more, clock: new ManualClock() };
}

test('work that settles in time gives the result, and leaves no timer', async (t) => {
  const within = limit();
  t.is(await runWithin(within, async () => 'done'), 'done');
  await t.throwsAsync(
    runWithin(within, async () => Promise.reject(new Error('it failed'))),
    { message: 'it failed' },
  );
  t.is(within.clock.pending, 0);
});

test("at the limit the work's signal is aborted, with the reason at that time", async (t) => {
  let state = 'begun';
  const within = limit({ reason: () => new Error(`late, and ${state}`) });
  const work = runWithin(within, endless);
  state = 'half done';
  within.clock.advance(999);
  within.clock.advance(1);
  await t.throwsAsync(work, { message: 'late, and half done' });
  t.is(within.clock.pending, 0);
});

test('work may still settle after the limit, and its result counts', async (t) => {
  const within = limit();
  const work = runWithin(within, async (signal) => {
    await endless(signal).catch(() => {});
    return 'cleaned up';
  });
  within.clock.advance(1_000);
  t.is(await work, 'cleaned up');
});

test('an outer signal aborts the work with its own reason', async (t) => {
  const outer = new AbortController();
  const within = limit({ signal: outer.signal });
  const work = runWithin(within, endless);
  outer.abort(new Error('enough'));
  await t.throwsAsync(work, { message: 'enough' });
  t.is(within.clock.pending, 0);
  await t.throwsAsync(runWithin(within, endless), { message: 'enough' }, 'aborted before');
});

test('the first of several outer signals to abort counts', async (t) => {
  const [first, second] = [new AbortController(), new AbortController()];
  const work = runWithin(limit({ signal: [first.signal, second.signal] }), endless);
  second.abort(new Error('second'));
  first.abort(new Error('first'));
  await t.throwsAsync(work, { message: 'second' });
});

test('work that throws immediately leaves neither a timer nor a listener', async (t) => {
  const { signal } = new AbortController();
  const within = limit({ signal });
  const throwing = () => {
    throw new Error('at once');
  };
  await t.throwsAsync(runWithin(within, throwing), { message: 'at once' });
  t.is(within.clock.pending, 0);
  t.is(getEventListeners(signal, 'abort').length, 0);
});

test('any number of calls may run under one outer signal', async (t) => {
  const { signal } = new AbortController();
  const within = limit({ signal });
  const many = async () =>
    Promise.all(Array.from({ length: 20 }, () => runWithin(within, async () => new Promise(setImmediate))));
  t.deepEqual(await warningsDuring(many), []);
  t.is(getEventListeners(signal, 'abort').length, 0);
});
