import { connect as amqpConnect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { type BrokerAddress, withoutCredentials } from '../../src/rpc/broker-address.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ConnectionManager } from '../../src/rpc/connection-manager.js';
import { listenForLogins } from '../support/amqp-handshake.js';
import { eventually } from '../support/eventually.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { ManualClock } from '../support/manual-clock.js';
import { logLines } from '../support/log-lines.js';

/** Brokers by URL, each of which can be down. */
function world(
  t: ExecutionContext,
  addresses: readonly BrokerAddress[],
  more: {
    onConnected?: () => Promise<void>;
    lookUp?: () => Promise<BrokerAddress[]>;
    /** No connection is closed before. */
    mayClose?: Promise<void>;
  } = {},
) {
  const clock = new LeapingClock();
  const logs = logLines();
  const down = new Set<string>();
  const asked: string[] = [];
  const askedAt: number[] = [];
  const embedded = new Map(addresses.map(({ url }) => [new URL(url).host, new EmbeddedBroker()]));
  const connect: Connect = async (url, options) => {
    const { host } = new URL(url);
    asked.push(host);
    askedAt.push(clock.now());
    const broker = embedded.get(host);
    if (broker === undefined || down.has(host)) throw new Error(`${host} is down`);
    const model = await broker.connect(url, options);
    const close = model.close.bind(model);
    model.close = async () => more.mayClose?.then(close) ?? close();
    return model;
  };
  const built: BrokerConnection[] = [];
  const retired: BrokerConnection[] = [];
  const connections = new ConnectionManager({
    connect,
    brokers: more.lookUp ?? (async () => addresses),
    name: 'test',
    onConnected: async (connection) => {
      await more.onConnected?.();
      built.push(connection);
    },
    onReplaced: async (connection) => void retired.push(connection),
    clock,
    log: logs.log,
  });
  t.teardown(async () => connections.close());
  const drop = (host: string) => embedded.get(host)?.dropConnections();
  const signal = new AbortController().signal;
  return { connections, down, asked, askedAt, built, retired, logs, drop, signal, clock };
}

/** Much longer than until the preferred broker is tried again, by the clock of the manager. */
const LONG_MS = 10 * 60_000;

const A = { url: 'amqp://user:secret@a:5672/vhost' };
const B = { url: 'amqp://b:5672' };

test('brokers are tried one after the other, and again after all have failed', async (t) => {
  const { connections, down, asked, signal } = world(t, [A, B]);
  down.add('a:5672').add('b:5672');
  connections.start();
  await eventually('both were tried twice', () => asked.length >= 4);
  t.deepEqual(asked.slice(0, 4), ['a:5672', 'b:5672', 'a:5672', 'b:5672']);
  down.delete('b:5672');
  await connections.whenConnected(signal);
  t.is(asked.at(-1), 'b:5672');
});

test('a broker that is down is logged once, without its password, and once when it is back', async (t) => {
  const { connections, down, asked, signal, logs } = world(t, [A]);
  down.add('a:5672');
  connections.start();
  await eventually('it was tried several times', () => asked.length >= 5);
  t.regex(connections.problem ?? '', /a:5672 is down/);
  down.clear();
  await connections.whenConnected(signal);
  t.deepEqual(
    logs.lines.map(({ level, message }) => [level, message]),
    [
      ['warn', 'broker connection lost'],
      ['info', 'broker connection restored'],
    ],
  );
  t.false(JSON.stringify(logs.lines).includes('secret'));
});

test('a broker whose connections are lost at once is tried less and less often, until one lasts a second', async (t) => {
  const { connections, asked, askedAt, drop, signal, clock } = world(t, [A]);
  connections.start();
  /** Loses the connection after this time. @returns how long the next attempt waits then */
  const lose = async (afterMs: number) => {
    const connection = await connections.whenConnected(signal);
    const tried = asked.length;
    if (afterMs > 0) await clock.sleep(afterMs);
    const from = clock.now();
    drop('a:5672');
    await eventually('the loss is seen', () => connection.lost.aborted);
    await eventually('it is tried again', () => asked.length > tried);
    return (askedAt[tried] ?? 0) - from;
  };
  const waits: number[] = [];
  for (let times = 0; times < 5; times++) waits.push(await lose(0));
  t.true((waits[0] ?? 0) <= 100, String(waits));
  t.true((waits[4] ?? 0) >= 500, String(waits));
  t.true((await lose(999)) >= 500);
  t.true((await lose(1_000)) <= 100);
});

test('everything is built again on each connection', async (t) => {
  const { connections, built, drop, signal } = world(t, [A]);
  connections.start();
  const first = await connections.whenConnected(signal);
  drop('a:5672');
  await eventually('the loss is seen', () => first.lost.aborted);
  const second = await connections.whenConnected(signal);
  t.not(first, second);
  t.deepEqual(built, [first, second]);
});

test('losing a channel means losing the connection', async (t) => {
  const { connections, signal } = world(t, [A]);
  connections.start();
  const connection = await connections.whenConnected(signal);
  const channel = await connection.channel();
  await channel.close();
  t.true(connection.lost.aborted);
  t.not(await connections.whenConnected(signal), connection);
});

test('a connection on which nothing can be built is abandoned', async (t) => {
  let failing = 3;
  const onConnected = async () => {
    if (failing-- > 0) throw new Error('no permission');
  };
  const { connections, signal, logs, asked } = world(t, [A], { onConnected });
  connections.start();
  await connections.whenConnected(signal);
  t.is(asked.length, 4);
  t.is(logs.find(/^broker connection lost$/).length, 1);
  t.is(logs.find(/^broker connection lost$/)[0]?.reason, 'no permission');
});

test('a preferred broker that is back takes the place of the one that replaced it', async (t) => {
  const { connections, down, drop, built, retired, signal, logs, clock } = world(t, [
    A,
    { ...B, preferred: false },
  ]);
  connections.start();
  const first = await connections.whenConnected(signal);
  t.true(first.preferred);
  down.add('a:5672');
  drop('a:5672');
  await eventually('the loss is seen', () => first.lost.aborted);
  const second = await connections.whenConnected(signal);
  t.false(second.preferred);
  await eventually('it is logged', () => logs.find(/^preferred broker lost$/).length === 1);
  t.like(logs.find(/^preferred broker lost$/)[0], {
    reason: 'a:5672 is down',
    broker: 'amqp://a:5672/vhost',
    connected_to: 'amqp://b:5672',
  });
  down.clear();
  const backAt = clock.now();
  const isBack = () => connections.current?.preferred === true;
  await eventually('it is back', () => isBack() || clock.now() - backAt > LONG_MS);
  t.true(isBack());
  t.is(built.length, 3);
  await eventually('the other connection is closed', () => second.lost.aborted);
  t.deepEqual(retired, [second]);
  t.is(logs.find(/^preferred broker restored$/).length, 1);
});

test('while the preferred broker stays down the other one serves on, and nothing more is reported', async (t) => {
  const { connections, down, asked, askedAt, signal, logs, clock } = world(t, [
    A,
    { ...B, preferred: false },
  ]);
  down.add('a:5672');
  connections.start();
  const connection = await connections.whenConnected(signal);
  const before = logs.lines.length;
  const from = clock.now();
  const tries = () => asked.filter((host) => host === 'a:5672').length;
  await eventually('it was tried repeatedly', () => tries() > 5 || clock.now() - from > LONG_MS);
  t.true(tries() > 5);
  const times = askedAt.filter((_, index) => asked[index] === 'a:5672').slice(1);
  t.deepEqual(new Set(times.slice(1).map((at, index) => at - (times[index] ?? 0))), new Set([10_000]));
  t.is(connections.current, connection);
  t.is(logs.lines.length - before <= 1, true);
});

test('a preferred broker that is still among those that have changed keeps its connection', async (t) => {
  let lookUps = 0;
  const lookUp = async () => {
    lookUps++;
    return [A, { ...B, preferred: false }];
  };
  const { connections, asked, built, signal } = world(t, [A, B], { lookUp });
  connections.start();
  const connection = await connections.whenConnected(signal);
  for (const count of [2, 3]) {
    connections.brokersChanged();
    await eventually('they are looked up again', () => lookUps === count);
  }
  t.is(connections.current, connection);
  t.deepEqual(asked, ['a:5672']);
  t.deepEqual(built, [connection]);
});

test('a manager that is being closed takes its connection for lost, not for replaced, when the brokers change', async (t) => {
  let letClose = () => {};
  const mayClose = new Promise<void>((resolve) => (letClose = resolve));
  const { connections, retired, signal } = world(t, [A], { mayClose });
  connections.start();
  await connections.whenConnected(signal);
  const closed = connections.close();
  connections.brokersChanged();
  await new Promise(setImmediate);
  letClose();
  await closed;
  t.deepEqual(retired, []);
});

test('while another broker serves, a failed lookup of brokers is not logged as a lost broker', async (t) => {
  let lookUps = 0;
  const lookUp = async () => {
    if (++lookUps > 1) throw new Error('the Manager is down');
    return [A, { ...B, preferred: false }];
  };
  const { connections, down, signal, logs } = world(t, [A, { ...B, preferred: false }], { lookUp });
  down.add('a:5672');
  connections.start();
  await connections.whenConnected(signal);
  await eventually('they were looked up repeatedly', () => lookUps > 5);
  t.deepEqual(
    logs.lines.map(({ message }) => message),
    ['broker connection lost', 'broker connection restored', 'preferred broker lost'],
  );
});

/** Two brokers, of which the first takes long to respond; time stands still but for what the test lets pass. */
function slowFirst(t: ExecutionContext) {
  const clock = new ManualClock();
  const brokers = { a: new EmbeddedBroker(), b: new EmbeddedBroker() };
  const asked: string[] = [];
  let respond = () => {};
  let isDown = true;
  const connect: Connect = async (url, options) => {
    const { hostname } = new URL(url);
    asked.push(hostname);
    if (hostname === 'a') await new Promise<void>((resolve) => (respond = resolve));
    else if (isDown) throw new Error('b is down');
    return brokers[hostname === 'a' ? 'a' : 'b'].connect(url, options);
  };
  const connections = new ConnectionManager({
    connect,
    brokers: async () => [A, B],
    name: 'test',
    onConnected: async () => {},
    clock,
    log: logLines().log,
  });
  t.teardown(async () => connections.close());
  connections.start();
  const times = (host: string) => asked.filter((each) => each === host).length;
  const until = async (what: string, reached: () => boolean) =>
    eventually(what, () => {
      clock.advance(50);
      return reached();
    });
  return { connections, clock, times, until, respond: () => respond(), up: () => void (isDown = false) };
}

test('while one broker does not respond the others are tried again and again', async (t) => {
  const { connections, clock, times, until, up } = slowFirst(t);
  const begun = clock.now();
  await until('the other was tried often', () => times('b') >= 5);
  t.true(clock.now() - begun < 8_000, `${clock.now() - begun} ms`);
  t.is(times('a'), 1);
  up();
  await until('it is connected', () => connections.current !== undefined);
  t.is(connections.current?.broker, 'amqp://b:5672');
});

test('a broker that responds after several seconds is used while no other one can be', async (t) => {
  const { connections, clock, times, until, respond } = slowFirst(t);
  const begun = clock.now();
  await until('five seconds have passed', () => clock.now() - begun >= 5_000);
  t.is(times('a'), 1);
  respond();
  await until('it is connected', () => connections.current !== undefined);
  t.is(connections.current?.broker, 'amqp://a:5672/vhost');
  t.is(times('a'), 1);
});

test('a closed manager connects no more, and a wait for its connection ends with the signal', async (t) => {
  const { connections, down } = world(t, [A]);
  down.add('a:5672');
  connections.start();
  const abort = new AbortController();
  const waiting = connections.whenConnected(abort.signal);
  abort.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
  await connections.close();
  t.is(connections.current, undefined);
});

test('an address is shown without its credentials', (t) => {
  t.is(withoutCredentials('amqps://user:p%40ss@host:5671/vhost?heartbeat=5'), 'amqps://host:5671/vhost');
  t.is(withoutCredentials('nonsense with secrets'), '***');
  t.is(withoutCredentials('amqp://user:12/Zq@host'), 'amqp://host');
  t.is(withoutCredentials('amqp://svc:s3cretPassw0rd'), 'amqp://***');
});

test('the manager logs in as the URL says, in any alphabet, and as guest by default', async (t) => {
  const { port, logins } = await listenForLogins(t);
  const connections = new ConnectionManager({
    connect: amqpConnect,
    brokers: async () =>
      ['j%C3%BCrgen:p%C3%A4ss@', ':@', '100%:%@', ''].map((login) => ({
        url: `amqp://${login}127.0.0.1:${port}/v%C3%B6`,
      })),
    name: 'test',
    onConnected: async () => {},
    clock: new LeapingClock(),
    log: logLines().log,
  });
  connections.start();
  t.teardown(async () => connections.close());
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
