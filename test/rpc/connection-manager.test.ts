import { connect as amqpConnect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import {
  type BrokerAddress,
  type Connect,
  type LiveConnection,
  Session,
  withoutCredentials,
} from '../../src/rpc/connection-manager.js';
import { listenForLogins } from '../support/amqp-handshake.js';
import { eventually } from '../support/eventually.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { logLines } from '../support/log-lines.js';

/** Brokers by URL, each of which can be away. */
function world(
  t: ExecutionContext,
  addresses: readonly BrokerAddress[],
  more: { onLive?: () => Promise<void>; lookUp?: () => Promise<BrokerAddress[]> } = {},
) {
  const clock = new LeapingClock();
  const logs = logLines();
  const away = new Set<string>();
  const asked: string[] = [];
  const embedded = new Map(addresses.map(({ url }) => [new URL(url).host, new EmbeddedBroker()]));
  const connect: Connect = async (url, options) => {
    const { host } = new URL(url);
    asked.push(host);
    const broker = embedded.get(host);
    if (broker === undefined || away.has(host)) throw new Error(`${host} is away`);
    return broker.connect(url, options);
  };
  const built: LiveConnection[] = [];
  const retired: LiveConnection[] = [];
  const session = new Session({
    connect,
    brokers: more.lookUp ?? (async () => addresses),
    name: 'test',
    onLive: async (live) => {
      await more.onLive?.();
      built.push(live);
    },
    onRetire: async (live) => void retired.push(live),
    clock,
    log: logs.log,
  });
  t.teardown(async () => session.close());
  const drop = (host: string) => embedded.get(host)?.dropConnections();
  const signal = new AbortController().signal;
  return { session, away, asked, built, retired, logs, drop, signal, clock };
}

const A = { url: 'amqp://user:secret@a:5672/vhost' };
const B = { url: 'amqp://b:5672' };

test('brokers are tried in turn, and again after all have failed', async (t) => {
  const { session, away, asked, signal } = world(t, [A, B]);
  away.add('a:5672').add('b:5672');
  session.start();
  await eventually('both were asked twice', () => asked.length >= 4);
  t.deepEqual(asked.slice(0, 4), ['a:5672', 'b:5672', 'a:5672', 'b:5672']);
  away.delete('b:5672');
  await session.whenLive(signal);
  t.is(asked.at(-1), 'b:5672');
});

test('a broker that is away is told once, without its password, and once when it is back', async (t) => {
  const { session, away, asked, signal, logs } = world(t, [A]);
  away.add('a:5672');
  session.start();
  await eventually('it was asked several times', () => asked.length >= 5);
  t.regex(session.lastError, /a:5672 is away/);
  away.clear();
  await session.whenLive(signal);
  t.deepEqual(
    logs.lines.map(({ level, message }) => [level, message]),
    [
      ['warn', 'broker connection lost'],
      ['info', 'broker connection restored'],
    ],
  );
  t.false(JSON.stringify(logs.lines).includes('secret'));
});

test('everything is built anew on each connection', async (t) => {
  const { session, built, drop, signal } = world(t, [A]);
  session.start();
  const first = await session.whenLive(signal);
  drop('a:5672');
  await eventually('the loss is seen', () => first.lost.aborted);
  const second = await session.whenLive(signal);
  t.not(first, second);
  t.deepEqual(built, [first, second]);
});

test('the loss of a channel is the loss of the connection', async (t) => {
  const { session, signal } = world(t, [A]);
  session.start();
  const live = await session.whenLive(signal);
  const channel = await live.channel();
  await channel.close();
  t.true(live.lost.aborted);
  t.not(await session.whenLive(signal), live);
});

test('a connection on which nothing can be built is given up', async (t) => {
  let failing = 3;
  const onLive = async () => {
    if (failing-- > 0) throw new Error('no permission');
  };
  const { session, signal, logs, asked } = world(t, [A], { onLive });
  session.start();
  await session.whenLive(signal);
  t.is(asked.length, 4);
  t.is(logs.find(/^broker connection lost$/).length, 1);
  t.is(logs.find(/^broker connection lost$/)[0]?.reason, 'no permission');
});

test('a preferred broker that is back takes the place of the one that stood in for it', async (t) => {
  const { session, away, drop, built, retired, signal, logs } = world(t, [A, { ...B, preferred: false }]);
  session.start();
  const first = await session.whenLive(signal);
  t.true(first.preferred);
  away.add('a:5672');
  drop('a:5672');
  await eventually('the loss is seen', () => first.lost.aborted);
  const second = await session.whenLive(signal);
  t.false(second.preferred);
  await eventually('it is told', () => logs.find(/^preferred broker away$/).length === 1);
  t.like(logs.find(/^preferred broker away$/)[0], {
    reason: 'a:5672 is away',
    broker: 'amqp://a:5672/vhost',
    stands_in: 'amqp://b:5672',
  });
  away.clear();
  await eventually('it is back', () => session.live?.preferred === true);
  t.is(built.length, 3);
  await eventually('the other is wound up and closed', () => second.lost.aborted);
  t.deepEqual(retired, [second]);
  t.is(logs.find(/^preferred broker restored$/).length, 1);
});

test('while the preferred broker stays away the other one serves on, and nothing more is told', async (t) => {
  const { session, away, asked, signal, logs } = world(t, [A, { ...B, preferred: false }]);
  away.add('a:5672');
  session.start();
  const live = await session.whenLive(signal);
  const before = logs.lines.length;
  await eventually(
    'the preferred one was asked again and again',
    () => asked.filter((host) => host === 'a:5672').length > 5,
  );
  t.is(session.live, live);
  t.is(logs.lines.length - before <= 1, true);
});

test('while another broker serves, brokers that cannot be looked up are no broker that is away', async (t) => {
  let lookUps = 0;
  const lookUp = async () => {
    if (++lookUps > 1) throw new Error('the Manager is away');
    return [A, { ...B, preferred: false }];
  };
  const { session, away, signal, logs } = world(t, [A, { ...B, preferred: false }], { lookUp });
  away.add('a:5672');
  session.start();
  await session.whenLive(signal);
  await eventually('they were looked up again and again', () => lookUps > 5);
  t.deepEqual(
    logs.lines.map(({ message }) => message),
    ['broker connection lost', 'broker connection restored', 'preferred broker away'],
  );
});

test('a closed session connects no more, and who waits for it is let go by the signal', async (t) => {
  const { session, away } = world(t, [A]);
  away.add('a:5672');
  session.start();
  const abort = new AbortController();
  const waiting = session.whenLive(abort.signal);
  abort.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
  await session.close();
  t.is(session.live, undefined);
});

test('an address is shown without what opens it', (t) => {
  t.is(withoutCredentials('amqps://user:p%40ss@host:5671/vhost?heartbeat=5'), 'amqps://host:5671/vhost');
  t.is(withoutCredentials('nonsense with secrets'), '(not a URL)');
});

test('a session logs in as the URL says, in any alphabet, and as guest when it says nothing', async (t) => {
  const { port, logins } = await listenForLogins(t);
  const session = new Session({
    connect: amqpConnect,
    brokers: async () =>
      ['j%C3%BCrgen:p%C3%A4ss@', ':@', '100%:%@', ''].map((login) => ({
        url: `amqp://${login}127.0.0.1:${port}/v%C3%B6`,
      })),
    name: 'test',
    onLive: async () => {},
    clock: new LeapingClock(),
    log: logLines().log,
  });
  session.start();
  t.teardown(async () => session.close());
  await eventually('each was tried', () => logins.length >= 4);
  t.deepEqual(
    logins.slice(0, 4).map(({ user, password, virtualHost }) => [user, password, virtualHost]),
    [
      ['jürgen', 'päss', 'vö'],
      ['', '', 'vö'],
      ['100%', '%', 'vö'],
      ['guest', 'guest', 'vö'],
    ],
  );
});
