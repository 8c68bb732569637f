import { getEventListeners } from 'node:events';
import type { ChannelModel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { reasonOf } from '../../src/lib/errors.js';
import { ConnectionManager } from '../../src/rpc/connection-manager.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

const A = { url: 'amqp://a:5672' };
const CONNECT_LIMIT_MS = 10_000;

/** A connection manager whose connections are made when the test says so, with a manual clock. */
function world(
  t: ExecutionContext,
  { brokers = [A], build = async () => {} }: { brokers?: (typeof A)[]; build?: () => Promise<void> } = {},
) {
  const clock = new ManualClock();
  const logs = logLines();
  const broker = new EmbeddedBroker();
  const ended = new Set<ChannelModel>();
  const attempts: { url: string; at: number; make: () => Promise<ChannelModel>; fail: () => void }[] = [];
  const connect: Connect = async (url, options) =>
    new Promise((resolve, reject) => {
      attempts.push({
        url,
        at: clock.now(),
        make: async () => {
          const connection = await broker.connect(url, options);
          connection.once('close', () => ended.add(connection));
          resolve(connection);
          return connection;
        },
        fail: () => reject(new Error('refused')),
      });
    });
  const isClosed = (connection: ChannelModel) => ended.has(connection);
  const built: BrokerConnection[] = [];
  const session = new ConnectionManager({
    connect,
    brokers: async () => brokers,
    name: 'test',
    onConnected: async (live) => {
      await build();
      built.push(live);
    },
    clock,
    log: logs.log,
  });
  session.start();
  t.teardown(async () => {
    const closed = session.close();
    attempts.forEach(({ fail }) => fail());
    await closed;
  });
  const attempt = async (number: number) => eventually(`attempt ${number}`, () => attempts[number - 1]);
  /** Advances the clock to the next attempt. */
  const nextAttempt = async (number: number) =>
    eventually(`attempt ${number}`, async () => {
      // The result of the last one is processed first.
      await new Promise(setImmediate);
      if (attempts[number - 1] === undefined) clock.leap();
      return attempts[number - 1];
    });
  return { session, clock, attempts, attempt, nextAttempt, isClosed, built, logs };
}

test('a connection that is made after the time limit is closed', async (t) => {
  const { session, clock, attempt, nextAttempt, isClosed, built } = world(t);
  const first = await attempt(1);
  clock.advance(CONNECT_LIMIT_MS);
  const second = await nextAttempt(2);
  const late = await first.make();
  await eventually('it is closed', () => isClosed(late));
  t.is(session.current, undefined);
  t.deepEqual(built, []);
  await second.make();
  const live = await session.whenConnected(new AbortController().signal);
  t.deepEqual(built, [live]);
});

test('a connection that is made within the time limit stays open after it', async (t) => {
  const { session, clock, attempt, isClosed, built } = world(t);
  const first = await attempt(1);
  clock.advance(CONNECT_LIMIT_MS - 1);
  const connection = await first.make();
  const live = await session.whenConnected(new AbortController().signal);
  clock.advance(CONNECT_LIMIT_MS * 10);
  await new Promise(setImmediate);
  t.false(isClosed(connection));
  t.is(session.current, live);
  t.deepEqual(built, [live]);
});

test('a connection that was made leaves no timer for its time limit', async (t) => {
  const { session, clock, attempt } = world(t);
  await (await attempt(1)).make();
  await session.whenConnected(new AbortController().signal);
  await eventually('no alarm is set', () => clock.pending === 0);
  t.pass();
});

test('a connection that lost a channel is closed, and another one is made', async (t) => {
  const { session, attempt, nextAttempt, isClosed } = world(t);
  const signal = new AbortController().signal;
  const connection = await (await attempt(1)).make();
  const live = await session.whenConnected(signal);
  await (await live.channel()).close();
  await eventually('it is closed', () => isClosed(connection));
  t.is(session.current, undefined);
  await (await nextAttempt(2)).make();
  t.not(await session.whenConnected(signal), live);
});

test('a connection on which nothing can be built is closed', async (t) => {
  const build = async () => {
    throw new Error('no permission');
  };
  const { session, attempt, nextAttempt, isClosed } = world(t, { build });
  for (const number of [1, 2]) {
    const connection = await (number === 1 ? await attempt(1) : await nextAttempt(2)).make();
    await eventually('it is closed', () => isClosed(connection));
    t.is(session.current, undefined);
  }
});

test('that the broker accepts no messages by a connection is reported only when it is the one that counts', async (t) => {
  let built = () => {};
  let building = false;
  const build = async () =>
    new Promise<void>((resolve) => {
      building = true;
      built = resolve;
    });
  const { session, attempt, logs } = world(t, { build });
  t.teardown(() => built());
  const connection = await (await attempt(1)).make();
  await eventually('it is being set up', () => building);
  connection.emit('blocked', 'low on memory');
  t.is(session.blockedReason, undefined);
  t.is(logs.find(/^broker blocked$/).length, 0);
  built();
  await session.whenConnected(new AbortController().signal);
  t.is(session.blockedReason, 'low on memory');
  t.is(logs.find(/^broker blocked$/).length, 1);
});

test('closing the manager is not a loss of a channel', async (t) => {
  const { session, attempt, isClosed } = world(t);
  const connection = await (await attempt(1)).make();
  const live = await session.whenConnected(new AbortController().signal);
  await live.channel();
  await session.close();
  t.true(isClosed(connection));
  t.is(reasonOf(live.lost.reason), 'the connection was closed');
});

test('that a connection was not made in time is reported as the reason', async (t) => {
  const { session, clock, attempt, logs } = world(t);
  await attempt(1);
  clock.advance(CONNECT_LIMIT_MS);
  await eventually('it is logged', () => logs.find(/^broker connection lost$/).length === 1);
  t.is(session.lastError, 'no connection within 10000 ms');
});

test('waiting for a connection leaves no listener on the signal, connected or aborted', async (t) => {
  const { session, attempt } = world(t);
  const abort = new AbortController();
  const aborted = new AbortController();
  const waiting = Array.from({ length: 3 }, async () => session.whenConnected(abort.signal));
  const finishRun = t.throwsAsync(session.whenConnected(aborted.signal), { message: 'enough' });
  t.is(getEventListeners(abort.signal, 'abort').length, 3);
  aborted.abort(new Error('enough'));
  await finishRun;
  await (await attempt(1)).make();
  const [first, ...others] = await Promise.all(waiting);
  for (const other of others) t.is(other, first as never);
  t.is(getEventListeners(abort.signal, 'abort').length, 0);
  t.is(getEventListeners(aborted.signal, 'abort').length, 0);
});

test('waiting with an already aborted signal ends immediately', async (t) => {
  const { session } = world(t);
  await t.throwsAsync(session.whenConnected(AbortSignal.abort(new Error('enough'))), { message: 'enough' });
});

test('the waits between attempts grow to a limit, with random jitter down to half of it', async (t) => {
  const { attempts, nextAttempt } = world(t);
  for (let number = 1; number <= 20; number++) (await nextAttempt(number)).fail();
  const waits = attempts.slice(1).map(({ at }, index) => at - (attempts[index]?.at ?? 0));
  for (const [index, wait] of waits.entries()) {
    const most = Math.min(15_000, 200 * 2 ** index);
    t.true(wait >= most / 2 && wait <= most, `wait ${index + 1}: ${wait} of ${most} ms`);
  }
  const longest = waits.slice(-10);
  t.is(new Set(longest).size, longest.length, 'no two of the longest are alike');
});

test('after a connection that was a good one the waits begin again', async (t) => {
  const { clock, nextAttempt, session } = world(t);
  const signal = new AbortController().signal;
  for (let number = 1; number <= 10; number++) (await nextAttempt(number)).fail();
  const connection = await (await nextAttempt(11)).make();
  await session.whenConnected(signal);
  clock.advance(31_000);
  const lost = clock.now();
  await connection.close();
  const next = await nextAttempt(12);
  t.true(next.at - lost <= 200, `${next.at - lost} ms`);
  next.fail();
  const after = await nextAttempt(13);
  t.true(after.at - next.at > 200 / 2 && after.at - next.at <= 400, `${after.at - next.at} ms`);
});

test('after connections that are lost soon the waits continue to grow', async (t) => {
  const { clock, nextAttempt, session } = world(t);
  const waits: number[] = [];
  for (let number = 1; number <= 10; number++) {
    const connection = await (await nextAttempt(number)).make();
    await session.whenConnected(new AbortController().signal);
    clock.advance(1_000);
    const lost = clock.now();
    await connection.close();
    waits.push((await nextAttempt(number + 1)).at - lost);
  }
  t.true((waits.at(-1) ?? 0) >= 15_000 / 2, waits.join(', '));
});

test('a manager that is closed while it waits or connects tries no more, and leaves nothing open', async (t) => {
  const { session, clock, attempt, attempts, isClosed } = world(t);
  const first = await attempt(1);
  const closed = session.close();
  const late = await first.make();
  await closed;
  await eventually('it is closed', () => isClosed(late));
  clock.advance(60_000);
  await new Promise(setImmediate);
  t.is(attempts.length, 1);
  t.is(session.current, undefined);
});

test('a loss has the reason that the broker gave before it closed the connection', async (t) => {
  const { session, attempt, logs } = world(t);
  const connection = await (await attempt(1)).make();
  const live = await session.whenConnected(new AbortController().signal);
  const reason = new Error('CONNECTION_FORCED');
  connection.emit('error', reason);
  connection.emit('close', new Error('closed'));
  t.is(live.lost.reason.cause, reason);
  await eventually('it is logged', () => logs.find(/^broker connection lost$/).length === 1);
  t.is(session.lastError, 'CONNECTION_FORCED');
});

test('that the broker accepts no messages is reported, and when it does again', async (t) => {
  const { session, attempt, logs, nextAttempt } = world(t);
  const signal = new AbortController().signal;
  const connection = await (await attempt(1)).make();
  await session.whenConnected(signal);
  t.is(session.blockedReason, undefined);
  connection.emit('blocked', 'low on memory');
  t.is(session.blockedReason, 'low on memory');
  t.is(logs.find(/^broker blocked$/)[0]?.reason, 'low on memory');
  connection.emit('unblocked');
  t.is(session.blockedReason, undefined);
  t.is(logs.find(/^broker unblocked$/).length, 1);
  connection.emit('blocked', 'low on disk');
  await connection.close();
  await (await nextAttempt(2)).make();
  await session.whenConnected(signal);
  t.is(session.blockedReason, undefined, 'the next connection is none of it');
  await eventually('it is logged', () => logs.find(/^broker unblocked$/).length === 2);
});

test('heartbeats are requested, unless the address says otherwise', async (t) => {
  const brokers = [A, { url: 'amqp://b:5672/vhost?heartbeat=5' }];
  const { attempt } = world(t, { brokers });
  const first = await attempt(1);
  t.is(new URL(first.url).searchParams.get('heartbeat'), '20');
  first.fail();
  t.is(new URL((await attempt(2)).url).searchParams.get('heartbeat'), '5');
});

test('a fault of several addresses is reported with the reason of each, once', (t) => {
  const error = new AggregateError([new Error('refused'), new Error('unreachable'), new Error('refused')]);
  t.is(reasonOf(error), 'refused; unreachable');
  t.is(reasonOf('text'), 'text');
});
