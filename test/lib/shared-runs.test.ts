import test from 'ava';
import { SharedRuns } from '../../src/lib/shared-runs.js';

/** Runs of one key, whose results the test gives. */
function open() {
  const shared = new SharedRuns();
  const begun: { end: (result: string) => void; fail: (error: Error) => void; signal: AbortSignal }[] = [];
  const call = async (signal = new AbortController().signal, key = 'a') =>
    shared.run(
      key,
      signal,
      (run) =>
        new Promise<string>((end, fail) => {
          begun.push({ end, fail, signal: run });
          run.addEventListener('abort', () => fail(run.reason));
        }),
    );
  const settle = () => new Promise(setImmediate);
  return { begun, call, settle };
}

test('calls that come while a run is in progress share the next one, which begins after it', async (t) => {
  const { begun, call, settle } = open();
  const first = call();
  await settle();
  const later = [call(), call(), call()];
  await settle();
  t.is(begun.length, 1);
  begun[0]?.end('old');
  t.is(await first, 'old');
  await settle();
  t.is(begun.length, 2);
  begun[1]?.end('new');
  t.deepEqual(await Promise.all(later), ['new', 'new', 'new']);
  t.is(begun.length, 2);
});

test('runs of other keys do not wait', async (t) => {
  const { begun, call, settle } = open();
  const calls = [call(), call(undefined, 'b')];
  await settle();
  for (const [index, { end }] of begun.entries()) end(`${index}`);
  t.deepEqual(await Promise.all(calls), ['0', '1']);
});

test('the next run begins also when the one before it fails, and a failure is that of all its callers', async (t) => {
  const { begun, call, settle } = open();
  const first = call();
  const later = [call(), call()];
  await settle();
  begun[0]?.fail(new Error('one'));
  await t.throwsAsync(first, { message: 'one' });
  await settle();
  begun[1]?.fail(new Error('two'));
  for (const each of later) await t.throwsAsync(each, { message: 'two' });
});

test('a caller that leaves does not end the run of the others; the last one does', async (t) => {
  const { begun, call, settle } = open();
  const [one, two] = [new AbortController(), new AbortController()];
  const first = call();
  const later = [call(one.signal), call(two.signal)] as const;
  await settle();
  begun[0]?.end('old');
  await first;
  await settle();
  one.abort(new Error('one left'));
  await t.throwsAsync(later[0], { message: 'one left' });
  t.false(begun[1]?.signal.aborted);
  two.abort(new Error('two left'));
  await t.throwsAsync(later[1], { message: 'two left' });
  t.true(begun[1]?.signal.aborted);
});

test('a run whose callers have left before it begins is not run, and not joined', async (t) => {
  const { begun, call, settle } = open();
  const impatient = new AbortController();
  const first = call();
  const left = call(impatient.signal);
  impatient.abort(new Error('left'));
  await t.throwsAsync(left, { message: 'left' });
  const later = call();
  await settle();
  begun[0]?.end('old');
  await first;
  await settle();
  begun[1]?.end('new');
  t.is(await later, 'new');
  t.is(begun.length, 2);
});
