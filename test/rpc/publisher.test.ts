import test from 'ava';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { NotConfirmed } from '../../src/rpc/pending-replies.js';
import { PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import { Publisher, type PublishWithin } from '../../src/rpc/publisher.js';
import { type Answer, fakeConnection, type Written } from '../support/fake-connection.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';

const DIRECT = 'amq.rabbitmq.reply-to.x';
const isProbe = ({ routingKey }: Written) => routingKey.startsWith('fleet_manager.probe.');

/** A publisher on connections that the test opens; `connect` opens one that answers like that. */
function open() {
  const clock = new ManualClock();
  const { log, lines } = logLines();
  const changes = { permission: 0, slowReplies: 0 };
  let current: BrokerConnection | undefined;
  const waiting: ((connection: BrokerConnection) => void)[] = [];
  const publisher = new Publisher({
    whenConnected: async () => current ?? new Promise((resolve) => waiting.push(resolve)),
    permissionChanged: () => changes.permission++,
    slowRepliesChanged: () => changes.slowReplies++,
    clock,
    log,
  });
  const connect = async (answer: (message: Written) => Answer = () => 'confirms') => {
    const written: Written[] = [];
    const answered = (message: Written) => {
      if (!isProbe(message)) written.push(message);
      return answer(message);
    };
    const connection = fakeConnection(answered, async () => fakeConnection(answered));
    await publisher.open(connection);
    return { connection, written };
  };
  const use = (connection: BrokerConnection | undefined) => {
    current = connection;
    if (connection !== undefined) for (const resolve of waiting.splice(0)) resolve(connection);
  };
  const publish = async (to: string, within: Partial<PublishWithin> = {}, exchange = '') =>
    publisher.publish(
      { exchange, routingKey: to },
      Buffer.from('x'),
      {},
      { signal: new AbortController().signal, ...within },
    );
  return { publisher, clock, lines, changes, connect, use, publish };
}

const keys = (written: readonly Written[]) => written.map(({ routingKey }) => routingKey);

test('a message is published on the connection of the service, or on its own as long as that lives', async (t) => {
  const { connect, use, publish } = open();
  const [service, own] = [await connect(), await connect()];
  use(service.connection);
  t.is(await publish('a'), 'routed');
  t.is(await publish('b', { by: own.connection }), 'routed');
  own.connection.lose(new Error('cut'));
  t.is(await publish('c', { by: own.connection }), 'routed');
  t.deepEqual([keys(service.written), keys(own.written)], [['a', 'c'], ['b']]);
});

test('a connection that was not prepared is a defect', async (t) => {
  const { use, publish } = open();
  use(fakeConnection(() => 'confirms'));
  await t.throwsAsync(publish('a'), { message: 'the connection is not prepared for publishing' });
});

test('after the loss of the connection a message is published again on the next one, until nobody waits', async (t) => {
  const { connect, use, publish } = open();
  const first = await connect((message) => (isProbe(message) ? 'confirms' : 'closes'));
  use(first.connection);
  const sent = watched(publish('a'));
  const caller = new AbortController();
  const given = publish('b', { signal: caller.signal });
  use(undefined);
  await settle();
  t.is(sent(), undefined);
  caller.abort(new Error('nobody waits'));
  const second = await connect();
  use(second.connection);
  await settle();
  t.is(sent(), 'routed');
  await t.throwsAsync(given, { message: 'nobody waits' });
  t.deepEqual(keys(second.written), ['a']);
});

test('a reply is published again after a loss too, but not when nobody waits for it any more', async (t) => {
  const { connect, use, publish, clock } = open();
  const first = await connect((message) => (isProbe(message) ? 'confirms' : 'waits'));
  use(first.connection);
  const caller = new AbortController();
  const until = clock.now() + 10_000;
  const replies = [publish('a', { until }), publish('b', { until, signal: caller.signal })];
  const given = t.throwsAsync(publish('c', { signal: caller.signal }), { message: 'nobody waits' });
  await settle();
  const second = await connect();
  use(second.connection);
  first.connection.lose(new Error('cut'));
  caller.abort(new Error('nobody waits'));
  t.is(await replies[0], 'routed');
  await t.throwsAsync(async () => replies[1], { message: 'nobody waits' });
  await given;
  t.deepEqual(keys(second.written), ['a']);
});

test('a message that must be alone shares no channel', async (t) => {
  const { connect, use, publish } = open();
  const { connection, written } = await connect();
  use(connection);
  for (const alone of [false, false, true]) await publish('a', { alone });
  const [, shared, own] = written.map(({ channel }) => channel);
  t.not(shared, own);
});

test('what AMQP cannot encode is an error at once', async (t) => {
  const { connect, use, publish } = open();
  const { connection, written } = await connect((message) =>
    isProbe(message) ? 'confirms' : 'cannot be encoded',
  );
  use(connection);
  await t.throwsAsync(publish('a'), { instanceOf: UnpublishableError });
  t.is(written.length, 1);
});

test('without the permission to write, messages to the default exchange wait for it, and both are told', async (t) => {
  const { publisher, connect, use, publish, clock, changes, lines } = open();
  let isAllowed = false;
  const { connection, written } = await connect(({ exchange }) =>
    isAllowed || exchange !== '' ? 'confirms' : 'refuses',
  );
  use(connection);
  t.regex(publisher.refusalOn(connection) ?? '', /^ACCESS_REFUSED .*lacks the write permission/);
  t.is(changes.permission, 1);
  const caller = new AbortController();
  const [waits, given] = [watched(publish('a')), publish('b', { signal: caller.signal })];
  t.is(await publish('key', {}, 'exchange'), 'routed');
  await settle();
  t.deepEqual(keys(written), ['key']);
  caller.abort(new Error('nobody waits'));
  await t.throwsAsync(given, { message: 'nobody waits' });
  isAllowed = true;
  clock.advance(1_000);
  await settle();
  t.is(waits(), 'routed');
  t.is(publisher.refusalOn(connection), undefined);
  t.is(changes.permission, 2);
  t.deepEqual(
    lines.map(({ message }) => message),
    ['replies refused', 'replies no longer refused'],
  );
});

test('a permission that is lost later is noticed by the message that is refused, which waits', async (t) => {
  const { publisher, connect, use, publish, clock } = open();
  let isAllowed = true;
  const { connection } = await connect(() => (isAllowed ? 'confirms' : 'refuses'));
  use(connection);
  isAllowed = false;
  const waits = watched(publish('a'));
  await settle();
  t.is(waits(), undefined);
  t.not(publisher.refusalOn(connection), undefined);
  isAllowed = true;
  clock.advance(1_000);
  await settle();
  t.is(waits(), 'routed');
});

test('a message that an exchange refuses is an error, and says nothing of replies', async (t) => {
  const { publisher, connect, use, publish } = open();
  const { connection } = await connect(({ exchange }) => (exchange === '' ? 'confirms' : 'refuses'));
  use(connection);
  await t.throwsAsync(publish('key', {}, 'exchange'), { instanceOf: PublishRefused });
  t.is(publisher.refusalOn(connection), undefined);
});

test('a reply that the broker does not confirm is slow after a second, and given up after the time of its caller', async (t) => {
  const { publisher, connect, use, publish, clock, changes } = open();
  const { connection } = await connect((message) => (isProbe(message) ? 'confirms' : 'waits'));
  use(connection);
  const sent = publish('a', { until: clock.now() + 10_000 });
  await settle();
  t.is(publisher.slowReplies, 0);
  for (let seconds = 1; seconds <= 12; seconds++) {
    clock.advance(1_000);
    await settle();
    t.is(publisher.slowReplies, seconds < 12 ? 1 : 0, String(seconds));
  }
  await t.throwsAsync(sent, { instanceOf: NotConfirmed, message: 'the broker did not confirm it in time' });
  t.is(changes.slowReplies, 2);
});

test('at most 30 replies to one address are unconfirmed, and other messages do not count', async (t) => {
  const { connect, use, publish, clock } = open();
  const { connection, written } = await connect((message) => (isProbe(message) ? 'confirms' : 'waits'));
  use(connection);
  const caller = new AbortController();
  const until = clock.now() + 10_000;
  const all = Array.from({ length: 40 }, async () => publish('a', { until, signal: caller.signal }));
  for (const more of [{ until }, {}]) all.push(publish('b', { ...more, signal: caller.signal }));
  for (let count = 0; count < 31; count++) all.push(publish('c', { signal: caller.signal }));
  await settle();
  const count = (key: string) => keys(written).filter((each) => each === key).length;
  t.deepEqual([count('a'), count('b'), count('c')], [30, 2, 31]);
  caller.abort(new Error('nobody waits'));
  for (const each of await Promise.allSettled(all)) t.is(each.status, 'rejected');
});

test('a direct reply has a connection of its own, and says why that cannot be opened', async (t) => {
  const { publisher, connect, use, publish, clock } = open();
  const { connection, written } = await connect();
  use(connection);
  t.is(await publish(DIRECT, { until: clock.now() + 10_000 }), 'routed');
  t.is(await publish(DIRECT), 'routed');
  t.deepEqual(keys(written), [DIRECT, DIRECT]);
  const alone = fakeConnection(() => 'confirms');
  await publisher.open(alone);
  const sent = publish(DIRECT, { until: clock.now(), by: alone });
  await settle();
  const problem = 'direct replies cannot be sent: this connection cannot open another one';
  t.is(publisher.directProblemOn(alone), problem);
  const failed = t.throwsAsync(sent, { instanceOf: NotConfirmed, message: problem });
  for (let seconds = 0; seconds < 5; seconds++) {
    clock.advance(1_000);
    await settle();
  }
  await failed;
  t.is(publisher.directProblemOn(connection), undefined);
});
