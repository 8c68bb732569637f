import test from 'ava';
import { ANSWERED_ELSEWHERE, hedged } from '../../../src/clusters/fleet/hedged.js';
import { ManualClock } from '../../support/manual-clock.js';

const HEDGE_MS = 500;

/** A read of hosts whose answers the test gives. */
function open(hosts: readonly string[]) {
  const clock = new ManualClock();
  const caller = new AbortController();
  const asked: string[] = [];
  const slower: string[] = [];
  const aborted: string[] = [];
  const mayHedge = { answer: true, asked: [] as string[] };
  const answers = new Map<
    string,
    { resolve: (answer: string | undefined) => void; reject: (e: Error) => void }
  >();
  const read = hedged<string, string>({
    hosts,
    hedgeMs: HEDGE_MS,
    clock,
    signal: caller.signal,
    onSlower: (host) => slower.push(host),
    mayHedge: (slow) => {
      mayHedge.asked.push(slow);
      return mayHedge.answer;
    },
    isSure: (answer) => !answer.startsWith('perhaps'),
    ask: (host, signal) =>
      new Promise((resolve, reject) => {
        asked.push(host);
        answers.set(host, { resolve, reject });
        signal.addEventListener('abort', () => {
          aborted.push(host);
          reject(signal.reason);
        });
      }),
  });
  const settle = async () => {
    for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate);
  };
  return {
    clock,
    caller,
    asked,
    slower,
    aborted,
    mayHedge,
    read,
    /** Advances the time, and lets follow what follows. */
    pass: async (ms: number) => {
      clock.advance(ms);
      await settle();
    },
    answer: async (host: string, answer: string | undefined) => {
      answers.get(host)?.resolve(answer);
      await settle();
    },
    fail: (host: string, error: Error) => answers.get(host)?.reject(error),
  };
}

test('a host that answers in time is the only one that is asked', async (t) => {
  const { pass, answer, read, asked, clock } = open(['a', 'b']);
  await pass(HEDGE_MS - 1);
  await answer('a', 'yes');
  t.deepEqual(await read, ['yes']);
  t.deepEqual(asked, ['a']);
  t.is(clock.pending, 0, 'no timer is left');
});

test('when a host takes long, another one is asked, and the first answer wins', async (t) => {
  const { pass, answer, read, asked, aborted, slower } = open(['a', 'b', 'c']);
  await pass(HEDGE_MS);
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'of b');
  t.deepEqual(await read, ['of b']);
  t.deepEqual(aborted, ['a', 'b'], 'the request to the slow host is aborted');
  t.deepEqual(slower, ['a']);
});

test('a host that was asked later is not slower when the first one answers', async (t) => {
  const { pass, answer, read, slower } = open(['a', 'b']);
  await pass(HEDGE_MS);
  await answer('a', 'of a');
  t.deepEqual(await read, ['of a']);
  t.deepEqual(slower, []);
});

test('after three hosts that take long, each further one is asked after twice the time', async (t) => {
  const { pass, answer, read, asked } = open(['a', 'b', 'c', 'd', 'e', 'f']);
  const counts: number[] = [];
  for (let times = 0; times <= 8; times++) {
    counts.push(asked.length);
    await pass(HEDGE_MS);
  }
  t.deepEqual(counts, [1, 2, 3, 3, 4, 4, 4, 4, 5]);
  await answer('b', undefined);
  t.deepEqual(asked, ['a', 'b', 'c', 'd', 'e', 'f'], 'one that fails is replaced at once');
  await answer('f', 'of f');
  t.deepEqual(await read, ['of f']);
});

test('an answer that cannot be used is not waited with: the next host is asked at once', async (t) => {
  const { answer, read, asked } = open(['a', 'b']);
  await answer('a', undefined);
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'of b');
  t.deepEqual(await read, ['of b']);
});

test('after an answer that is not sure another host is asked, whose sure answer wins', async (t) => {
  const { answer, read, asked, slower, clock } = open(['a', 'b', 'c']);
  await answer('a', 'perhaps');
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'yes');
  t.deepEqual(await read, ['yes']);
  t.deepEqual([slower, clock.pending], [[], 0]);
});

test('two answers that are not sure are enough', async (t) => {
  const { answer, read } = open(['a', 'b', 'c']);
  await answer('a', 'perhaps');
  await answer('b', 'perhaps not');
  t.deepEqual(await read, ['perhaps', 'perhaps not']);
});

test('hosts that do not answer delay an answer that is not sure by twice the time for a hedge, and are slower', async (t) => {
  const { pass, answer, read, asked, slower, clock } = open(['a', 'b', 'c']);
  await answer('a', 'perhaps');
  await pass(HEDGE_MS);
  t.deepEqual(asked, ['a', 'b', 'c']);
  await pass(HEDGE_MS - 1);
  t.deepEqual(slower, []);
  await pass(1);
  t.deepEqual(await read, ['perhaps']);
  t.deepEqual([slower, clock.pending], [['b', 'c'], 0]);
});

test('an answer that is not sure counts when no other host has a usable one', async (t) => {
  const { answer, read } = open(['a', 'b']);
  await answer('a', 'perhaps');
  await answer('b', undefined);
  t.deepEqual(await read, ['perhaps']);
});

test('when no host has a usable answer, there is none', async (t) => {
  const { pass, answer, read } = open(['a', 'b']);
  await pass(HEDGE_MS);
  await answer('a', undefined);
  await answer('b', undefined);
  t.deepEqual(await read, []);
  t.deepEqual(await open([]).read, []);
});

test('a host that throws ends the read, and the requests to the others', async (t) => {
  const { pass, fail, read, aborted } = open(['a', 'b']);
  await pass(HEDGE_MS);
  fail('a', new Error('not usable at all'));
  await t.throwsAsync(read, { message: 'not usable at all' });
  t.true(aborted.includes('b'));
});

test('when the caller gives up, every request is aborted with its reason', async (t) => {
  const { pass, caller, read, aborted, clock } = open(['a', 'b', 'c']);
  await pass(HEDGE_MS);
  const reason = new Error('the deadline passed');
  caller.abort(reason);
  t.is(await t.throwsAsync(read), reason);
  t.deepEqual(aborted, ['a', 'b']);
  t.is(clock.pending, 0);
});

test('when the caller gives up just when a host fails, no other host is asked', async (t) => {
  const { caller, answer, read, asked } = open(['a', 'b']);
  const reason = new Error('the deadline passed');
  // The host's answer is known first.
  const answered = answer('a', undefined);
  caller.abort(reason);
  await answered;
  t.is(await t.throwsAsync(read), reason);
  t.deepEqual(asked, ['a']);
});

test('there is a timer only while a further host may be asked, and only one', async (t) => {
  const { answer, read, clock, pass } = open(['a', 'b', 'c']);
  t.is(clock.pending, 1);
  await answer('a', undefined);
  t.is(clock.pending, 1);
  await pass(HEDGE_MS);
  t.is(clock.pending, 0);
  await answer('c', 'of c');
  t.deepEqual(await read, ['of c']);
});

test('a request that is aborted because of another answer has that as its reason', async (t) => {
  const clock = new ManualClock();
  let reason: unknown;
  const answer = await hedged<string, string>({
    hosts: ['slow', 'quick'],
    hedgeMs: HEDGE_MS,
    clock,
    signal: new AbortController().signal,
    onSlower: () => {},
    ask: async (host, signal) => {
      if (host === 'quick') return 'yes';
      setImmediate(() => clock.advance(HEDGE_MS));
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reason = signal.reason;
          reject(signal.reason);
        });
      });
    },
  });
  t.deepEqual(answer, ['yes']);
  t.is(reason, ANSWERED_ELSEWHERE);
});

test('while no hedge may be made it is waited for that time again, and after four times a hedge is made all the same', async (t) => {
  const { pass, answer, read, asked, mayHedge } = open(['a', 'b']);
  mayHedge.answer = false;
  for (let times = 1; times <= 3; times++) await pass(HEDGE_MS);
  t.deepEqual(asked, ['a']);
  t.deepEqual(mayHedge.asked, ['a', 'a', 'a']);
  await pass(HEDGE_MS);
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'of b');
  t.deepEqual(await read, ['of b']);
});

test('a hedge is made as soon as it may be', async (t) => {
  const { pass, answer, read, asked, mayHedge } = open(['a', 'b']);
  mayHedge.answer = false;
  await pass(HEDGE_MS);
  mayHedge.answer = true;
  await pass(HEDGE_MS);
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'of b');
  t.deepEqual(await read, ['of b']);
});

test('a host that fails is replaced at once, also while no hedge may be made', async (t) => {
  const { pass, answer, read, asked, mayHedge } = open(['a', 'b']);
  mayHedge.answer = false;
  await pass(HEDGE_MS);
  await answer('a', undefined);
  t.deepEqual(asked, ['a', 'b']);
  await answer('b', 'of b');
  t.deepEqual(await read, ['of b']);
});
