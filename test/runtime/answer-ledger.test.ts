import test from 'ava';
import { AnswerLedger } from '../../src/runtime/answer-ledger.js';
import { ManualClock } from '../support/manual-clock.js';

const bytes = (answer: string) => answer.length;
/** Lets the ledger see what has ended. */
const settled = async () => new Promise(setImmediate);

test('a finished answer is recalled until its time is up', async (t) => {
  const clock = new ManualClock();
  const ledger = new AnswerLedger<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve('answer');
  ledger.track('key', outcome, bytes);
  t.like(ledger.recall('key'), { state: 'running' });
  await outcome;
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'answer' });
  clock.advance(1_000);
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'answer' });
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
  clock.advance(1_000);
  t.deepEqual(ledger.recall('key'), { state: 'never-begun' });
  clock.advance(1);
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

test('an answer of just the size that is kept is kept', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock(), { maxBytes: 400 });
  const answer = 'x'.repeat(100);
  ledger.track('key', Promise.resolve(answer), bytes);
  await settled();
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer });
});

test('answers are kept for ten minutes, unless told otherwise', async (t) => {
  const clock = new ManualClock();
  const ledger = new AnswerLedger<string>(clock);
  ledger.track('key', Promise.resolve('answer'), bytes);
  await settled();
  clock.advance(600_000);
  t.like(ledger.recall('key'), { state: 'finished' });
  clock.advance(1);
  t.like(ledger.recall('key'), { state: 'unknown' });
});

test('the time that an answer is kept begins with its end', async (t) => {
  const clock = new ManualClock();
  const ledger = new AnswerLedger<string>(clock, { keepMs: 1_000 });
  let finish: (answer: string) => void = () => {};
  ledger.track('key', new Promise((resolve) => (finish = resolve)), bytes);
  clock.advance(5_000);
  t.like(ledger.recall('key'), { state: 'running' });
  finish('answer');
  await settled();
  clock.advance(1_000);
  t.like(ledger.recall('key'), { state: 'finished' });
});

test('at no time are more bytes or more answers kept than may be, and the latest half always is', async (t) => {
  const size = 10;
  for (const [limits, most] of [
    [{ maxBytes: 8 * size }, 8],
    [{ maxEntries: 8 }, 8],
  ] as const) {
    const ledger = new AnswerLedger<string>(new ManualClock(), limits);
    for (let n = 0; n < 40; n++) {
      ledger.track(String(n), Promise.resolve('x'.repeat(size)), bytes);
      await settled();
      const kept = Array.from({ length: n + 1 }, (_, key) => ledger.recall(String(key)).state === 'finished');
      t.true(kept.filter(Boolean).length <= most);
      t.true(kept.slice(-most / 2).every(Boolean));
    }
  }
});

test('what never began counts as an entry, and takes no bytes', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock(), { maxBytes: 400, maxEntries: 20 });
  ledger.track('first', Promise.resolve('x'.repeat(100)), bytes);
  for (let n = 0; n < 9; n++) ledger.track(String(n), Promise.resolve(undefined), () => 1_000);
  await settled();
  t.like(ledger.recall('first'), { state: 'finished' });
  for (let n = 10; n < 30; n++) ledger.track(String(n), Promise.resolve(undefined), () => 1_000);
  await settled();
  t.like(ledger.recall('first'), { state: 'unknown' });
});

/** Fills a ledger of so many entries, so that what it held before is in its older half. */
async function age(ledger: AnswerLedger<string>, entries: number): Promise<void> {
  for (let n = 0; n < entries / 2; n++) ledger.track(`filler ${n}`, Promise.resolve(undefined), bytes);
  await settled();
}

for (const where of ['younger', 'older'] as const) {
  test(`that a request never began is forgotten once it has begun, also from the ${where} half`, async (t) => {
    const ledger = new AnswerLedger<string>(new ManualClock(), { maxBytes: 400, maxEntries: 20 });
    ledger.track('key', Promise.resolve(undefined), bytes);
    await settled();
    if (where === 'older') await age(ledger, 20);
    t.like(ledger.recall('key'), { state: 'never-begun' });
    // This answer is too large to be kept: nothing takes the place of what was known before.
    ledger.track('key', Promise.resolve('x'.repeat(101)), bytes);
    t.like(ledger.recall('key'), { state: 'running' });
    await settled();
    t.like(ledger.recall('key'), { state: 'unknown' });
  });
}

test('of a request that was taken up twice, the later run is what is known', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock());
  let finishLater: (answer: string) => void = () => {};
  const later = new Promise<string>((resolve) => (finishLater = resolve));
  ledger.track('key', Promise.resolve('earlier'), bytes);
  ledger.track('key', later, bytes);
  await settled();
  const known = ledger.recall('key');
  t.is(known.state === 'running' && known.answer, later);
  finishLater('later');
  await settled();
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'later' });
});

test('an answer that is newer than what the older half has is the one that is recalled', async (t) => {
  const ledger = new AnswerLedger<string>(new ManualClock(), { maxEntries: 20 });
  const finish: ((answer: string) => void)[] = [];
  for (let n = 0; n < 2; n++) ledger.track('key', new Promise((resolve) => finish.push(resolve)), bytes);
  finish[0]?.('earlier');
  await settled();
  await age(ledger, 20);
  finish[1]?.('later');
  await settled();
  t.deepEqual(ledger.recall('key'), { state: 'finished', answer: 'later' });
});
