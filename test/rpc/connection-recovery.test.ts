import { getEventListeners } from 'node:events';
import type { ChannelModel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import type { BrokerAddress } from '../../src/rpc/broker-address.js';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { reasonOf } from '../../src/lib/errors.js';
import { ConnectionManager } from '../../src/rpc/connection-manager.js';
import { MechanismNotOffered } from '../../src/rpc/patched-amqplib.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle } from '../support/open-runner.js';

const A = { url: 'amqp://a:5672' };
const CONNECT_LIMIT_MS = 10_000;
const REFUSAL = new Error('Handshake terminated by server: 403 (ACCESS-REFUSED) with message "..."');

/** A connection manager whose connections are made when the test says so, with a manual clock. */
function world(
  t: ExecutionContext,
  { brokers = [A], build = async () => {} }: { brokers?: BrokerAddress[]; build?: () => Promise<void> } = {},
) {
  const clock = new ManualClock();
  const logs = logLines();
  const broker = new EmbeddedBroker();
  const ended = new Set<ChannelModel>();
  const attempts: {
    url: string;
    at: number;
    make: () => Promise<ChannelModel>;
    fail: (error?: Error) => void;
  }[] = [];
  const connect: Connect = async (url, options) =>
    new Promise((resolve, reject) => {
      attempts.push({
        url,
        at: clock.now(),
        make: async () => {
          const model = await broker.connect(url, options);
          model.once('close', () => ended.add(model));
          resolve(model);
          return model;
        },
        fail: (error = new Error('unreachable')) => reject(error),
      });
    });
  const isClosed = (model: ChannelModel) => ended.has(model);
  const built: BrokerConnection[] = [];
  const connections = new ConnectionManager({
    connect,
    brokers: async () => brokers,
    name: 'test',
    onConnected: async (connection) => {
      await build();
      built.push(connection);
    },
    clock,
    log: logs.log,
  });
  connections.start();
  t.teardown(async () => {
    const closed = connections.close();
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
  return { connections, clock, attempts, attempt, nextAttempt, isClosed, built, logs };
}

test('a connection that is made after the time limit is closed', async (t) => {
  const { connections, clock, attempt, nextAttempt, isClosed, built } = world(t);
  const first = await attempt(1);
  clock.advance(CONNECT_LIMIT_MS);
  const second = await nextAttempt(2);
  const late = await first.make();
  await eventually('it is closed', () => isClosed(late));
  t.is(connections.current, undefined);
  t.deepEqual(built, []);
  await second.make();
  const connection = await connections.whenConnected(new AbortController().signal);
  t.deepEqual(built, [connection]);
});

test('a connection that is made within the time limit stays open after it', async (t) => {
  const { connections, clock, attempt, isClosed, built } = world(t);
  const first = await attempt(1);
  clock.advance(CONNECT_LIMIT_MS - 1);
  const model = await first.make();
  const connection = await connections.whenConnected(new AbortController().signal);
  clock.advance(CONNECT_LIMIT_MS * 10);
  await new Promise(setImmediate);
  t.false(isClosed(model));
  t.is(connections.current, connection);
  t.deepEqual(built, [connection]);
});

test('a connection that was made leaves no timer for its time limit', async (t) => {
  const { connections, clock, attempt } = world(t);
  await (await attempt(1)).make();
  await connections.whenConnected(new AbortController().signal);
  await eventually('no alarm is set', () => clock.pending === 0);
  t.pass();
});

test('a connection that lost a channel is closed, and another one is made', async (t) => {
  const { connections, attempt, nextAttempt, isClosed } = world(t);
  const signal = new AbortController().signal;
  const model = await (await attempt(1)).make();
  const connection = await connections.whenConnected(signal);
  await (await connection.channel()).close();
  await eventually('it is closed', () => isClosed(model));
  t.is(connections.current, undefined);
  await (await nextAttempt(2)).make();
  t.not(await connections.whenConnected(signal), connection);
});

test('a connection on which nothing can be built is closed', async (t) => {
  const build = async () => {
    throw new Error('no permission');
  };
  const { connections, attempt, nextAttempt, isClosed } = world(t, { build });
  for (const number of [1, 2]) {
    const model = await (number === 1 ? await attempt(1) : await nextAttempt(2)).make();
    await eventually('it is closed', () => isClosed(model));
    t.is(connections.current, undefined);
    t.is(connections.problem, 'amqp://a:5672 cannot be used: no permission');
  }
});

test('a connection that was blocked says nothing of a broker when it is lost while it is set up', async (t) => {
  let building = false;
  const build = async () => {
    building = true;
    await new Promise(() => {});
  };
  const { connections, attempt } = world(t, { build });
  const model = await (await attempt(1)).make();
  await eventually('it is being set up', () => building);
  model.emit('blocked', 'low on memory');
  model.emit('error', new Error('CONNECTION_FORCED'));
  await model.close();
  await settle();
  t.is(connections.blockedReason, undefined);
  t.is(connections.problem, 'amqp://a:5672 cannot be used: CONNECTION_FORCED');
});

test('a connection that is blocked while it is set up is logged once, and says why nothing can be sent', async (t) => {
  let built = () => {};
  let building = false;
  const build = async () =>
    new Promise<void>((resolve) => {
      building = true;
      built = resolve;
    });
  const { connections, attempt, logs } = world(t, { build });
  t.teardown(() => built());
  const model = await (await attempt(1)).make();
  await eventually('it is being set up', () => building);
  model.emit('blocked', 'low on memory');
  t.is(connections.problem, 'the broker accepts no messages: low on memory');
  t.is(logs.find(/^broker blocked$/).length, 1);
  built();
  await connections.whenConnected(new AbortController().signal);
  t.is(connections.blockedReason, 'low on memory');
  t.is(logs.find(/^broker blocked$/).length, 1);
});

test('closing the manager is not a loss of a channel', async (t) => {
  const { connections, attempt, isClosed } = world(t);
  const model = await (await attempt(1)).make();
  const connection = await connections.whenConnected(new AbortController().signal);
  await connection.channel();
  await connections.close();
  t.true(isClosed(model));
  t.is(reasonOf(connection.lost.reason), 'the connection was closed');
});

test('a connection that is not made in time gives that as the reason of the loss', async (t) => {
  const { connections, clock, attempt, logs } = world(t);
  await attempt(1);
  clock.advance(CONNECT_LIMIT_MS);
  await eventually('it is logged', () => logs.find(/^broker connection lost$/).length === 1);
  t.is(connections.problem, 'no connection to a broker: no connection within 10000 ms');
});

test('waiting for a connection leaves no listener on the signal, connected or aborted', async (t) => {
  const { connections, attempt } = world(t);
  const abort = new AbortController();
  const aborted = new AbortController();
  const waiting = Array.from({ length: 3 }, async () => connections.whenConnected(abort.signal));
  const finishRun = t.throwsAsync(connections.whenConnected(aborted.signal), { message: 'enough' });
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
  const { connections } = world(t);
  await t.throwsAsync(connections.whenConnected(AbortSignal.abort(new Error('enough'))), {
    message: 'enough',
  });
});

test('the waits between attempts grow to a limit, with random jitter down to half of it', async (t) => {
  const { attempts, nextAttempt } = world(t);
  for (let number = 1; number <= 20; number++) (await nextAttempt(number)).fail();
  const waits = attempts.slice(1).map(({ at }, index) => at - (attempts[index]?.at ?? 0));
  for (const [index, wait] of waits.entries()) {
    const most = Math.min(1_000, 100 * 2 ** index);
    t.true(wait >= most / 2 && wait <= most, `wait ${index + 1}: ${wait} of ${most} ms`);
  }
  const longest = waits.slice(-10);
  t.is(new Set(longest).size, longest.length, 'no two of the longest are alike');
});

test('a broker that refuses the login is tried less often, but at least every 5 s', async (t) => {
  for (const refusal of [
    REFUSAL,
    new MechanismNotOffered(['EXTERNAL']),
    new Error('NOT_ALLOWED - vhost none not found', {
      cause: new Error('Expected ConnectionOpenOk; got <ConnectionClose channel:0>'),
    }),
  ]) {
    const { attempts, nextAttempt } = world(t);
    for (let number = 1; number <= 15; number++) (await nextAttempt(number)).fail(refusal);
    const last = attempts.slice(-5).map(({ at }, index, all) => at - (all[index - 1]?.at ?? at));
    for (const wait of last.slice(1)) t.true(wait >= 2_500 && wait <= 5_000, `${wait} ms`);
  }
});

test('a broker that refuses the setup is tried less often, but at least every 5 s', async (t) => {
  const build = async () => {
    throw new Error('no permission');
  };
  const { attempts, nextAttempt } = world(t, { build });
  for (let number = 1; number <= 15; number++) await (await nextAttempt(number)).make();
  const last = attempts.slice(-5).map(({ at }, index, all) => at - (all[index - 1]?.at ?? at));
  for (const wait of last.slice(1)) t.true(wait >= 2_500 && wait <= 5_000, `${wait} ms`);
});

test('after a connection that was good for a second the waits begin again with the shortest', async (t) => {
  const { clock, nextAttempt, connections } = world(t);
  const signal = new AbortController().signal;
  for (let number = 1; number <= 10; number++) (await nextAttempt(number)).fail();
  const model = await (await nextAttempt(11)).make();
  await connections.whenConnected(signal);
  clock.advance(1_000);
  const lost = clock.now();
  await model.close();
  const next = await nextAttempt(12);
  t.true(next.at - lost <= 100, `${next.at - lost} ms`);
  next.fail();
  const after = await nextAttempt(13);
  t.true(after.at - next.at >= 200 / 2 && after.at - next.at <= 200, `${after.at - next.at} ms`);
});

test('after connections that are lost soon the waits continue to grow', async (t) => {
  const { clock, nextAttempt, connections } = world(t);
  const waits: number[] = [];
  // What refused the login before has let it in since.
  (await nextAttempt(1)).fail(REFUSAL);
  for (let number = 2; number <= 11; number++) {
    const model = await (await nextAttempt(number)).make();
    await connections.whenConnected(new AbortController().signal);
    clock.advance(999);
    const lost = clock.now();
    await model.close();
    waits.push((await nextAttempt(number + 1)).at - lost);
  }
  const last = waits.at(-1) ?? 0;
  t.true(last >= 1_000 / 2 && last <= 1_000, waits.join(', '));
});

test('a manager that is closed while it waits or connects tries no more, and leaves nothing open', async (t) => {
  const { connections, clock, attempt, attempts, isClosed } = world(t);
  const first = await attempt(1);
  const closed = connections.close();
  const late = await first.make();
  await closed;
  await eventually('it is closed', () => isClosed(late));
  clock.advance(60_000);
  await new Promise(setImmediate);
  t.is(attempts.length, 1);
  t.is(connections.current, undefined);
});

test('a manager that is closed while it connects to one broker does not try the next one', async (t) => {
  const { connections, attempt, attempts } = world(t, { brokers: [A, { url: 'amqp://b:5672' }] });
  await attempt(1);
  const closed = connections.close();
  await settle();
  t.is(attempts.length, 1);
  await closed;
});

test('the loss of a connection to a broker that is not preferred is seen at once', async (t) => {
  const brokers = [A, { url: 'amqp://b:5672', preferred: false }];
  const { connections, attempt, attempts, nextAttempt, logs } = world(t, { brokers });
  (await attempt(1)).fail();
  const model = await (await nextAttempt(2)).make();
  await connections.whenConnected(new AbortController().signal);
  model.emit('error', new Error('CONNECTION_FORCED'));
  await model.close();
  await settle();
  t.is(logs.find(/^broker connection lost$/).at(-1)?.reason, 'CONNECTION_FORCED');
  t.is(attempts.length, 2, 'first it waits');
});

test('a manager that is closed does not wait for a broker that is silent during the connection', async (t) => {
  const { connections, attempt, isClosed } = world(t);
  const first = await attempt(1);
  await connections.close();
  const late = await first.make();
  await eventually('it is closed', () => isClosed(late));
  t.is(connections.current, undefined);
});

test('a manager that is closed does not wait for a connection to be set up', async (t) => {
  let building = false;
  const build = async () => {
    building = true;
    await new Promise(() => {});
  };
  const { connections, attempt, isClosed } = world(t, { build });
  const model = await (await attempt(1)).make();
  await eventually('it is being set up', () => building);
  await connections.close();
  await eventually('it is closed', () => isClosed(model));
  t.is(connections.current, undefined);
});

test('a loss has the reason that the broker gave before it closed the connection', async (t) => {
  const { connections, attempt, logs } = world(t);
  const model = await (await attempt(1)).make();
  const connection = await connections.whenConnected(new AbortController().signal);
  const reason = new Error('CONNECTION_FORCED');
  model.emit('error', reason);
  model.emit('close', new Error('closed'));
  t.is(connection.lost.reason.cause, reason);
  await eventually('it is logged', () => logs.find(/^broker connection lost$/).length === 1);
  t.is(connections.problem, 'no connection to a broker: CONNECTION_FORCED');
});

test('a broker that accepts no messages is logged, and its return', async (t) => {
  const { connections, attempt, logs, nextAttempt } = world(t);
  const signal = new AbortController().signal;
  const model = await (await attempt(1)).make();
  await connections.whenConnected(signal);
  t.is(connections.blockedReason, undefined);
  model.emit('blocked', 'low on memory');
  t.is(connections.blockedReason, 'low on memory');
  t.is(logs.find(/^broker blocked$/)[0]?.reason, 'low on memory');
  model.emit('unblocked');
  t.is(connections.blockedReason, undefined);
  t.is(logs.find(/^broker unblocked$/).length, 1);
  model.emit('blocked', 'low on disk');
  await model.close();
  t.is(connections.blockedReason, undefined, 'the connection is lost');
  await (await nextAttempt(2)).make();
  await connections.whenConnected(signal);
  t.is(connections.blockedReason, undefined, 'the next connection is none of it');
  await eventually('it is logged', () => logs.find(/^broker unblocked$/).length === 2);
});

test('heartbeats are requested, unless the address says otherwise', async (t) => {
  const brokers = [A, { url: 'amqp://b:5672/vhost?heartbeat=5' }];
  const { attempt } = world(t, { brokers });
  const first = await attempt(1);
  t.is(new URL(first.url).searchParams.get('heartbeat'), '10');
  first.fail();
  t.is(new URL((await attempt(2)).url).searchParams.get('heartbeat'), '5');
});

test('a fault of several addresses is reported with the reason of each, once', (t) => {
  const error = new AggregateError([new Error('refused'), new Error('unreachable'), new Error('refused')]);
  t.is(reasonOf(error), 'refused; unreachable');
  t.is(reasonOf('text'), 'text');
});
