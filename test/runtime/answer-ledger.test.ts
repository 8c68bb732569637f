import test from 'ava';
import { AnswerLedger } from '../../src/runtime/answer-ledger.js';
import { ManualClock } from '../support/manual-clock.js';

const bytes = (answer: string) => answer.length;

test('a finished answer is recalled until its time is up', async (t) => {
  const clock = new ManualClock();
  const ledger = new AnswerLedger<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve('answer');
  ledger.track('key', outcome, bytes);
  t.like(ledger.recall('key'), { state: 'running' });
  await outcome;
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'answer' });
  clock.advance(1_000);
  t.like(ledger.recall('key'), { state: 'finished' });
  clock.advance(1);
  t.deepEqual(ledger.recall('key'), { state: 'unknown' });
});

test('who asks while a request runs gets its answer when it ends', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock());
  let finish: (answer: string) => void = () => {};
  ledger.track('key', new Promise((resolve) => (finish = resolve)), bytes);
  const known = ledger.recall('key');
  finish('answer');
  t.is(known.state === 'running' ? await known.answer : undefined, 'answer');
});

test('a request that never began is known as such, until it begins', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock());
  const outcome = Promise.resolve(undefined);
  ledger.track('key', outcome, bytes);
  await outcome;
  t.deepEqual(ledger.recall('key'), { state: 'never-begun' });
  ledger.track('key', new Promise(() => {}), bytes);
  t.like(ledger.recall('key'), { state: 'running' });
});

test('that a request never began is known for as long as an answer is', async (t) => {
  const clock = new ManualClock();
  const ledger = new AnswerLedger<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve(undefined);
  ledger.track('key', outcome, bytes);
  await outcome;
  clock.advance(1_001);
  t.deepEqual(ledger.recall('key'), { state: 'unknown' });
});

test('the oldest answers go when there are too many bytes or too many of them', async (t) => {
  const keep = async (limits: { maxBytes?: number; maxEntries?: number }) => {
    const ledger = new AnswerLedger<string>(new ManualClock(), limits);
    for (let n = 0; n < 10; n++) {
      const outcome = Promise.resolve('x'.repeat(100));
      ledger.track(String(n), outcome, bytes);
      await outcome;
    }
    return Array.from({ length: 10 }, (_, n) => ledger.recall(String(n)).state === 'finished');
  };
  const lastFour = [...Array(6).fill(false), ...Array(4).fill(true)];
  t.deepEqual(await keep({ maxBytes: 400 }), lastFour);
  t.deepEqual(await keep({ maxEntries: 4 }), lastFour);
});

test('there are never more answers, or bytes of them, than may be kept, and never less than half', async (t) => {
  for (const limits of [{ maxBytes: 800 }, { maxEntries: 8 }]) {
    const ledger = new AnswerLedger<string>(new ManualClock(), limits);
    for (let n = 1; n <= 30; n++) {
      const outcome = Promise.resolve('x'.repeat(100));
      ledger.track(String(n), outcome, bytes);
      await outcome;
      const kept = Array.from({ length: n }, (_, each) => ledger.recall(String(each + 1)).state).filter(
        (state) => state === 'finished',
      ).length;
      t.true(kept <= 8 && kept >= Math.min(n, 4), `${kept} of ${n}`);
    }
  }
});

test('an answer that alone would fill much of the memory is not kept', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock(), { maxBytes: 400 });
  const outcome = Promise.resolve('x'.repeat(101));
  ledger.track('key', outcome, bytes);
  await outcome;
  t.deepEqual(ledger.recall('key'), { state: 'unknown' });
});

test('that a request never began is over when it was taken up again, kept answer or not', async (t) => {
  // The second answer that is kept takes the place of what was kept before: each is in the older half then.
  for (const others of [0, 1]) {
    const ledger = new AnswerLedger<string>(new ManualClock(), { maxBytes: 400, maxEntries: 2 });
    const settle = async (key: string, answer: string | undefined) => {
      const outcome = Promise.resolve(answer);
      ledger.track(key, outcome, bytes);
      await outcome;
    };
    await settle('key', undefined);
    for (let n = 0; n < others; n++) await settle(`other ${n}`, 'answer');
    t.deepEqual(ledger.recall('key'), { state: 'never-begun' });
    await settle('key', 'x'.repeat(101));
    t.deepEqual(ledger.recall('key'), { state: 'unknown' }, `${others} others`);
  }
});

test('a request that is taken up twice at once is running until the later one ends', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock());
  const earlier = Promise.resolve(undefined);
  let finish: (answer: string) => void = () => {};
  const later = new Promise<string>((resolve) => (finish = resolve));
  ledger.track('key', earlier, bytes);
  ledger.track('key', later, bytes);
  await earlier;
  t.like(ledger.recall('key'), { state: 'running' });
  finish('answer');
  await later;
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'answer' });
});
