import test from 'ava';
import { RedeliveryMemory } from '../../src/rpc/redelivery-memory.js';
import { ManualClock } from '../support/manual-clock.js';

const bytes = (reply: string) => reply.length;
/** Lets the memory process settled promises. */
const settled = async () => new Promise(setImmediate);

interface Source {
  place: string;
  mayHaveBegun: boolean;
  mustRunAlone: () => boolean;
}

/** A request that runs until its reply is known; it is released when that is undefined. */
function track(
  memory: RedeliveryMemory<string>,
  key: string,
  settling: Promise<string | undefined>,
  sizeOf: (reply: string) => number,
  { mustRunAlone, ...source }: Source,
): void {
  const running = memory.begin(key, source);
  void settling.then((reply) =>
    reply === undefined
      ? memory.released(running, mustRunAlone())
      : memory.settled(running, reply, sizeOf(reply)),
  );
}

/** A message that no other worker has had. */
const NEW = { place: 'requests', mayHaveBegun: false, mustRunAlone: () => false };
const RELEASED = {
  state: 'released',
  places: new Set(['requests']),
  mayHaveBegun: false,
  mustRunAlone: false,
} as const;

test('a finished reply is recalled until its time is up', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve('answer');
  track(memory, 'key', outcome, bytes, NEW);
  t.like(memory.recall('key'), { state: 'running' });
  await outcome;
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'answer' });
  clock.advance(1_000);
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'answer' });
  clock.advance(1);
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('what is remembered of a request takes more memory than its reply', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  t.is(memory.bytes, 0);
  for (const reply of ['first', 'second', undefined]) {
    track(memory, String(reply), Promise.resolve(reply), bytes, NEW);
    await settled();
  }
  t.is(memory.bytes, 'first'.length + 'second'.length + 3 * 512);
});

test('every place where a request was released is remembered, and whether it may have begun the last time', async (t) => {
  for (const others of [0, 1]) {
    const memory = new RedeliveryMemory<string>(new ManualClock(), { maxEntries: 2 });
    const release = async (key: string, source: typeof NEW) => {
      track(memory, key, Promise.resolve(undefined), bytes, source);
      await settled();
    };
    await release('key', NEW);
    for (let n = 0; n < others; n++) await release(`other ${n}`, NEW);
    await release('key', { ...NEW, place: 'suspects 0', mayHaveBegun: true });
    t.deepEqual(memory.recall('key'), {
      state: 'released',
      places: new Set(['requests', 'suspects 0']),
      mayHaveBegun: true,
      mustRunAlone: false,
    });
  }
});

test('a released request that another worker may take now is forgotten, a reply is not', async (t) => {
  for (const others of [0, 1]) {
    const memory = new RedeliveryMemory<string>(new ManualClock(), { maxEntries: 4 });
    const end = async (key: string, reply: string | undefined) => {
      track(memory, key, Promise.resolve(reply), bytes, NEW);
      await settled();
    };
    await end('released', undefined);
    await end('settled', 'answer');
    for (let n = 0; n < others; n++) await end(`other ${n}`, 'answer');
    for (const key of ['released', 'settled', 'unknown']) memory.forgetting(key)();
    t.deepEqual(memory.recall('released'), { state: 'unknown' });
    t.deepEqual(memory.recall('settled'), { state: 'settled', reply: 'answer' });
  }
});

test('a released request that another worker may take now gets no reply of an earlier request with its key', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxEntries: 4 });
  track(memory, 'key', Promise.resolve('earlier'), bytes, NEW);
  await age(memory, 4);
  track(memory, 'key', Promise.resolve(undefined), bytes, NEW);
  await settled();
  t.deepEqual(memory.recall('key'), RELEASED);
  memory.forgetting('key')();
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('what is known of a request that was released again meanwhile is not forgotten', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  const release = (mustRunAlone: boolean) => memory.released(memory.begin('key', NEW), mustRunAlone);
  for (const before of ['nothing', 'a release']) {
    if (before === 'a release') release(false);
    const forget = memory.forgetting('key');
    release(true);
    forget();
    t.like(memory.recall('key'), { state: 'released', mustRunAlone: true }, before);
  }
});

test('a redelivery waits for the running request and gets its reply', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  let finish: (reply: string) => void = () => {};
  track(memory, 'key', new Promise((resolve) => (finish = resolve)), bytes, NEW);
  const known = memory.recall('key');
  finish('answer');
  t.is(known.state === 'running' ? await known.reply : undefined, 'answer');
});

test('a released request is remembered as released, until it begins', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  const outcome = Promise.resolve(undefined);
  track(memory, 'key', outcome, bytes, NEW);
  await outcome;
  t.deepEqual(memory.recall('key'), RELEASED);
  track(memory, 'key', new Promise(() => {}), bytes, NEW);
  t.like(memory.recall('key'), { state: 'running' });
});

test('a released request is remembered for as long as a reply', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock, { keepMs: 1_000 });
  const outcome = Promise.resolve(undefined);
  track(memory, 'key', outcome, bytes, NEW);
  await outcome;
  clock.advance(1_000);
  t.deepEqual(memory.recall('key'), RELEASED);
  clock.advance(1);
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('the oldest replies are evicted when there are too many bytes or too many of them', async (t) => {
  const keep = async (limits: { maxBytes?: number; maxEntries?: number }) => {
    const memory = new RedeliveryMemory<string>(new ManualClock(), limits);
    for (let n = 0; n < 10; n++) {
      const outcome = Promise.resolve('x'.repeat(100));
      track(memory, String(n), outcome, bytes, NEW);
      await outcome;
    }
    return Array.from({ length: 10 }, (_, n) => memory.recall(String(n)).state === 'settled');
  };
  const lastFour = [...Array(6).fill(false), ...Array(4).fill(true)];
  t.deepEqual(await keep({ maxBytes: 400 }), lastFour);
  t.deepEqual(await keep({ maxEntries: 4 }), lastFour);
});

test('the number and the bytes of the kept replies stay within the limit, and above half of it', async (t) => {
  for (const limits of [{ maxBytes: 800 }, { maxEntries: 8 }]) {
    const memory = new RedeliveryMemory<string>(new ManualClock(), limits);
    let most = 0;
    for (let n = 1; n <= 30; n++) {
      const outcome = Promise.resolve('x'.repeat(100));
      track(memory, String(n), outcome, bytes, NEW);
      await outcome;
      const kept = Array.from({ length: n }, (_, each) => memory.recall(String(each + 1)).state).filter(
        (state) => state === 'settled',
      ).length;
      t.true(kept <= 8 && kept >= Math.min(n, 4), `${kept} of ${n}`);
      most = Math.max(most, kept);
    }
    t.is(most, 8);
  }
});

test('a reply that alone would fill much of the memory is not kept', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400 });
  const outcome = Promise.resolve('x'.repeat(101));
  track(memory, 'key', outcome, bytes, NEW);
  await outcome;
  t.deepEqual(memory.recall('key'), { state: 'unknown' });
});

test('a request that was released before it began is new again, whether or not a reply is kept', async (t) => {
  // The second kept reply replaces the current half, so each one is then in the older half.
  for (const others of [0, 1]) {
    const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400, maxEntries: 2 });
    const settle = async (key: string, reply: string | undefined) => {
      const outcome = Promise.resolve(reply);
      track(memory, key, outcome, bytes, NEW);
      await outcome;
    };
    await settle('key', undefined);
    for (let n = 0; n < others; n++) await settle(`other ${n}`, 'answer');
    t.deepEqual(memory.recall('key'), RELEASED);
    await settle('key', 'x'.repeat(101));
    t.deepEqual(memory.recall('key'), { state: 'unknown' }, `${others} others`);
  }
});

test('a request that is received twice concurrently is running until the later one ends', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  const earlier = Promise.resolve(undefined);
  let finish: (reply: string) => void = () => {};
  const later = new Promise<string>((resolve) => (finish = resolve));
  track(memory, 'key', earlier, bytes, NEW);
  track(memory, 'key', later, bytes, NEW);
  await earlier;
  t.like(memory.recall('key'), { state: 'running' });
  finish('answer');
  await later;
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'answer' });
});

test('a reply of exactly the size limit is kept', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400 });
  const reply = 'x'.repeat(100);
  track(memory, 'key', Promise.resolve(reply), bytes, NEW);
  await settled();
  t.deepEqual(memory.recall('key'), { state: 'settled', reply });
});

test('replies are kept for ten minutes by default', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock);
  track(memory, 'key', Promise.resolve('answer'), bytes, NEW);
  await settled();
  clock.advance(600_000);
  t.like(memory.recall('key'), { state: 'settled' });
  clock.advance(1);
  t.like(memory.recall('key'), { state: 'unknown' });
});

test('the time that a reply is kept begins with its end', async (t) => {
  const clock = new ManualClock();
  const memory = new RedeliveryMemory<string>(clock, { keepMs: 1_000 });
  let finish: (reply: string) => void = () => {};
  track(memory, 'key', new Promise((resolve) => (finish = resolve)), bytes, NEW);
  clock.advance(5_000);
  t.like(memory.recall('key'), { state: 'running' });
  finish('answer');
  await settled();
  clock.advance(1_000);
  t.like(memory.recall('key'), { state: 'settled' });
});

test('kept replies and bytes never exceed their limit, and the latest half is always kept', async (t) => {
  const size = 10;
  for (const [limits, most] of [
    [{ maxBytes: 8 * size }, 8],
    [{ maxEntries: 8 }, 8],
  ] as const) {
    const memory = new RedeliveryMemory<string>(new ManualClock(), limits);
    for (let n = 0; n < 40; n++) {
      track(memory, String(n), Promise.resolve('x'.repeat(size)), bytes, NEW);
      await settled();
      const kept = Array.from({ length: n + 1 }, (_, key) => memory.recall(String(key)).state === 'settled');
      t.true(kept.filter(Boolean).length <= most);
      t.true(kept.slice(-most / 2).every(Boolean));
    }
  }
});

test('a released request counts as an entry, and takes no bytes', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400, maxEntries: 20 });
  track(memory, 'first', Promise.resolve('x'.repeat(100)), bytes, NEW);
  for (let n = 0; n < 9; n++) track(memory, String(n), Promise.resolve(undefined), () => 1_000, NEW);
  await settled();
  t.like(memory.recall('first'), { state: 'settled' });
  for (let n = 10; n < 30; n++) track(memory, String(n), Promise.resolve(undefined), () => 1_000, NEW);
  await settled();
  t.like(memory.recall('first'), { state: 'unknown' });
});

test('a released request is known, whether another worker may have begun it before, and whether it must run alone', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  const source = { place: 'suspects 2', mayHaveBegun: true, mustRunAlone: () => true };
  track(memory, 'key', Promise.resolve(undefined), bytes, source);
  t.like(memory.recall('key'), { state: 'running' });
  await settled();
  t.deepEqual(memory.recall('key'), {
    state: 'released',
    places: new Set(['suspects 2']),
    mayHaveBegun: true,
    mustRunAlone: true,
  });
  track(memory, 'key', Promise.resolve('answer'), bytes, source);
  await settled();
  t.like(memory.recall('key'), { state: 'settled', reply: 'answer' });
});

test('replies are evicted as far as bytes are needed, the older generation first', async (t) => {
  const kept = async (needed: number) => {
    const memory = new RedeliveryMemory<string>(new ManualClock(), { maxEntries: 4 });
    for (const key of ['1', '2', '3']) track(memory, key, Promise.resolve('x'.repeat(10_000)), bytes, NEW);
    await settled();
    t.true(memory.bytes >= 30_000);
    memory.evict(needed);
    const found = ['1', '2', '3'].filter((key) => memory.recall(key).state === 'settled');
    t.true(memory.bytes >= found.length * 10_000 && memory.bytes < (found.length + 1) * 10_000);
    return found;
  };
  t.deepEqual(await kept(0), ['1', '2', '3']);
  t.deepEqual(await kept(1), ['3']);
  t.deepEqual(await kept(2 * 10_512), ['3']);
  t.deepEqual(await kept(2 * 10_512 + 1), []);
  t.deepEqual(await kept(1e9), []);
});

/** Fills a memory with the given capacity, so that its previous entries are in its older half. */
async function age(memory: RedeliveryMemory<string>, entries: number): Promise<void> {
  for (let n = 0; n < entries / 2; n++) track(memory, `filler ${n}`, Promise.resolve(undefined), bytes, NEW);
  await settled();
}

for (const where of ['younger', 'older'] as const) {
  test(`a request stops being released once it has begun, also from the ${where} half`, async (t) => {
    const memory = new RedeliveryMemory<string>(new ManualClock(), { maxBytes: 400, maxEntries: 20 });
    track(memory, 'key', Promise.resolve(undefined), bytes, NEW);
    await settled();
    if (where === 'older') await age(memory, 20);
    t.like(memory.recall('key'), RELEASED);
    // This reply is too large to be kept, so nothing replaces the previous entry.
    track(memory, 'key', Promise.resolve('x'.repeat(101)), bytes, NEW);
    t.like(memory.recall('key'), { state: 'running' });
    await settled();
    t.like(memory.recall('key'), { state: 'unknown' });
  });
}

test('for a request that was received twice, the later run counts', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock());
  let finishLater: (reply: string) => void = () => {};
  const later = new Promise<string>((resolve) => (finishLater = resolve));
  track(memory, 'key', Promise.resolve('earlier'), bytes, NEW);
  track(memory, 'key', later, bytes, NEW);
  await settled();
  const known = memory.recall('key');
  finishLater('later');
  await settled();
  t.is(known.state === 'running' ? await known.reply : undefined, 'later');
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'later' });
});

test('a reply that is newer than the one in the older half is recalled', async (t) => {
  const memory = new RedeliveryMemory<string>(new ManualClock(), { maxEntries: 20 });
  const finish: ((reply: string) => void)[] = [];
  for (let n = 0; n < 2; n++)
    track(memory, 'key', new Promise((resolve) => finish.push(resolve)), bytes, NEW);
  finish[0]?.('earlier');
  await settled();
  await age(memory, 20);
  finish[1]?.('later');
  await settled();
  t.deepEqual(memory.recall('key'), { state: 'settled', reply: 'later' });
});
