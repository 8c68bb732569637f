import test from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { NotConfirmed, PendingReplies } from '../../src/rpc/pending-replies.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { LazyAbort } from '../../src/lib/lazy-abort.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle } from '../support/open-runner.js';
import { collectGarbage } from '../support/collect-garbage.js';

const ADDRESS = { url: 'amqp://embedded.invalid' };

/** The replies on a connection to a broker that confirms them when the test says so. */
async function open() {
  const clock = new ManualClock();
  const model = await new EmbeddedBroker().connect(ADDRESS.url, {});
  const connection = new BrokerConnection(model, ADDRESS);
  connection.onBlockedChange(() => {});
  const told: number[] = [];
  const replies: PendingReplies = new PendingReplies({ clock, changed: () => told.push(replies.slow) });
  /** A reply whose caller waits for this long. */
  const send = (waitsMs: number, given = new AbortController()) => {
    const reply = {
      confirm: () => {},
      ended: undefined as unknown,
      isAborted: () => false,
      stop: (reason: Error) => given.abort(reason),
    };
    const limit = {
      connection,
      until: clock.now() + waitsMs,
      signal: given.signal,
      why: () => 'the broker has not confirmed it',
    };
    void replies
      .within(limit, async (signal) => {
        reply.isAborted = () => signal.aborted;
        return new Promise((resolve) => (reply.confirm = () => resolve('confirmed')));
      })
      .then(
        (outcome) => (reply.ended = outcome),
        (error: unknown) => (reply.ended = error),
      );
    return reply;
  };
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 1_000) {
      clock.advance(Math.min(1_000, ms - passed));
      await settle();
    }
  };
  return { clock, model, replies, told, send, pass };
}

test('a reply that is confirmed within a second is not slow', async (t) => {
  const { clock, told, send, pass } = await open();
  const reply = send(60_000);
  await pass(999);
  reply.confirm();
  await settle();
  t.is(reply.ended, 'confirmed');
  t.deepEqual(told, []);
  t.is(clock.pending, 0);
});

test('a reply that takes longer than a second is slow until it is confirmed', async (t) => {
  const { clock, replies, told, send, pass } = await open();
  const [first, second] = [send(60_000), send(60_000)];
  await pass(5_000);
  t.is(replies.slow, 2);
  first.confirm();
  await settle();
  t.is(replies.slow, 1);
  second.confirm();
  await settle();
  t.is(replies.slow, 0);
  t.deepEqual(told, [1, 2, 1, 0]);
  t.is(clock.pending, 0);
});

test('a reply ends when its caller has stopped waiting, two seconds after its time limit', async (t) => {
  const { replies, send, pass } = await open();
  const reply = send(20_000);
  await pass(21_000);
  t.is(reply.ended, undefined);
  await pass(1_000);
  t.true(reply.ended instanceof NotConfirmed);
  t.is((reply.ended as Error).message, 'the broker has not confirmed it');
  t.true(reply.isAborted());
  t.is(replies.slow, 0);
});

test('a broker has five seconds to confirm a reply, however little its caller waits', async (t) => {
  const { send, pass } = await open();
  const reply = send(0);
  await pass(4_000);
  t.is(reply.ended, undefined);
  await pass(1_000);
  t.true(reply.ended instanceof NotConfirmed);
});

test('while the broker accepts no messages, a reply neither ends nor is slow', async (t) => {
  const { model, replies, send, pass } = await open();
  model.emit('blocked', 'low on memory');
  const reply = send(1_000);
  await pass(60_000);
  t.is(reply.ended, undefined);
  t.is(replies.slow, 0);
  model.emit('unblocked');
  await pass(1_000);
  t.true(reply.ended instanceof NotConfirmed);
});

test('a reply ends with its signal', async (t) => {
  const { clock, replies, send, pass } = await open();
  const reply = send(60_000);
  await pass(2_000);
  const reason = new Error('enough');
  reply.stop(reason);
  await settle();
  t.is(reply.ended, reason);
  t.is(replies.slow, 0);
  t.is(clock.pending, 0);
});

test('30 replies to one address are sent at the same time, and those to others do not wait for them', async (t) => {
  const { replies } = await open();
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const send = (address: string) =>
    replies.inTurn(address, new LazyAbort(), async () => {
      begun.push(address);
      await new Promise<void>((resolve) => ends.push(resolve));
      return address;
    });
  const sent = Array.from({ length: 32 }, async () => send('a'));
  await settle();
  t.is(begun.length, 30);
  sent.push(send('b'));
  await settle();
  t.deepEqual(begun.slice(30), ['b']);
  ends[0]?.();
  await settle();
  t.deepEqual(begun.slice(31), ['a']);
  for (let rounds = 0; rounds < 2; rounds++) {
    for (const end of ends) end();
    await settle();
  }
  t.deepEqual(new Set(await Promise.all(sent)), new Set(['a', 'b']));
});

test('a reply that waits for its turn stops waiting with its signal, and one that fails makes room for the next', async (t) => {
  const { replies } = await open();
  const given = new LazyAbort();
  const fails: ((error: Error) => void)[] = [];
  const held = Array.from({ length: 30 }, async () =>
    replies.inTurn('a', new LazyAbort(), async () => new Promise<void>((_, reject) => fails.push(reject))),
  );
  const left = replies.inTurn('a', given, async () => 'sent');
  const next = replies.inTurn('a', new LazyAbort(), async () => 'sent');
  await settle();
  given.abort(new Error('enough'));
  await t.throwsAsync(left, { message: 'enough' });
  fails[0]?.(new Error('refused'));
  await t.throwsAsync(Promise.race(held), { message: 'refused' });
  t.is(await next, 'sent');
  for (const fail of fails) fail(new Error('refused'));
  await Promise.allSettled(held);
});

test('the end of one of several replies to an address lets only one more begin', async (t) => {
  const { replies } = await open();
  const ends: (() => void)[] = [];
  const sent: Promise<void>[] = [];
  const send = async (many: number) => {
    for (let n = 0; n < many; n++)
      sent.push(
        replies.inTurn('a', new LazyAbort(), async () => new Promise((resolve) => ends.push(resolve))),
      );
    await settle();
  };
  await send(1);
  await send(1);
  await send(1);
  ends.shift()?.();
  await settle();
  ends.shift()?.();
  await settle();
  await send(30);
  t.is(ends.length, 30);
  ends.shift()?.();
  await settle();
  t.is(ends.length, 30);
  for (const end of ends) end();
  await Promise.all(sent);
});

test('addresses that had replies once take no memory', async (t) => {
  const used = () => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const { replies } = await open();
  const bytes = 10_000;
  const times = 2_000;
  const before = used();
  for (let n = 0; n < times; n++)
    await replies.inTurn(Buffer.alloc(bytes, `${n},`).toString('latin1'), new LazyAbort(), async () => {});
  t.true(used() - before < (bytes * times) / 2);
  t.is(replies.slow, 0);
});
