import { EventEmitter, getEventListeners } from 'node:events';
import { type ChannelModel, connect as amqpConnect } from 'amqplib';
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
import { settle } from '../support/open-runner.js';
import { warningsDuring } from '../support/warnings.js';

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
  /** The latest connection to each broker. */
  const models = new Map<string, ChannelModel>();
  const embedded = new Map(addresses.map(({ url }) => [new URL(url).host, new EmbeddedBroker()]));
  const connect: Connect = async (url, options) => {
    const { host } = new URL(url);
    asked.push(host);
    askedAt.push(clock.now());
    const broker = embedded.get(host);
    if (broker === undefined || down.has(host)) throw new Error(`${host} is down`);
    const model = await broker.connect(url, options);
    models.set(host, model);
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
  return { connections, down, asked, askedAt, models, built, retired, logs, drop, signal, clock };
}

/** Much longer than until the preferred broker is tried again, by the clock of the manager. */
const LONG_MS = 10 * 60_000;

const A = { url: 'amqp://user:Zqsecret@a:5672/vhost' };
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

test('a connection that is kept gathers no listeners, however often the brokers change', async (t) => {
  let lookUps = 0;
  const lookUp = async () => {
    lookUps++;
    return [A];
  };
  const { connections, signal } = world(t, [A], { lookUp });
  connections.start();
  const { lost } = await connections.whenConnected(signal);
  const listeners: number[] = [];
  for (let count = 2; count <= 6; count++) {
    connections.brokersChanged();
    await eventually('they are looked up again', () => lookUps === count);
    await settle();
    listeners.push(getEventListeners(lost, 'abort').length);
  }
  t.is(new Set(listeners).size, 1, listeners.join(', '));
});

test('a broker that is no longer among those that have changed is left, and that is the reason why there is none', async (t) => {
  let letClose = () => {};
  const mayClose = new Promise<void>((resolve) => (letClose = resolve));
  let known = [A];
  const lookUp = async () => known;
  const { connections, retired, signal, logs } = world(t, [A], { lookUp, mayClose });
  t.teardown(() => letClose());
  connections.start();
  const connection = await connections.whenConnected(signal);
  known = [];
  connections.brokersChanged();
  await eventually('it is left', () => retired.length === 1);
  t.is(retired[0], connection);
  t.false(connection.lost.aborted);
  t.is(connections.current, undefined, 'nothing more is sent on it');
  t.is(connections.problem, 'no connection to a broker: another broker is to be used');
  t.deepEqual(
    logs.lines.map(({ message, reason }) => [message, reason]),
    [['broker connection lost', 'another broker is to be used']],
  );
});

test('brokers that change while they are looked up are not tried, but looked up again', async (t) => {
  let lookUps = 0;
  let found: (brokers: BrokerAddress[]) => void = () => {};
  const lookUp = async () => {
    if (++lookUps > 1) return [B];
    return new Promise<BrokerAddress[]>((resolve) => (found = resolve));
  };
  const { connections, asked, signal, logs } = world(t, [A, B], { lookUp });
  connections.start();
  connections.brokersChanged();
  found([A]);
  await connections.whenConnected(signal);
  t.deepEqual(asked, ['b:5672']);
  t.deepEqual(logs.lines, []);
});

test('while there are no brokers to try they are looked up at least once a second, and less often when that fails', async (t) => {
  for (const fails of [false, true]) {
    const times: number[] = [];
    const lookUp = async (): Promise<BrokerAddress[]> => {
      times.push(clock.now());
      if (fails) throw new Error('the Manager is down');
      return [];
    };
    const { connections, clock } = world(t, [A], { lookUp });
    connections.start();
    await eventually('they were looked up often', () => times.length > 15);
    await connections.close();
    const waits = times.map((at, index) => at - (times[index - 1] ?? at)).slice(10, 15);
    const [least, most] = fails ? [2_500, 5_000] : [500, 1_000];
    for (const wait of waits) t.true(wait >= least && wait <= most, `${fails} ${wait} ms`);
  }
});

test('a manager that is closed does not wait for the lookup of its brokers, and says why there is no connection', async (t) => {
  const { connections } = world(t, [A], { lookUp: async () => new Promise(() => {}) });
  connections.start();
  await connections.close();
  t.is(connections.problem, 'no connection to a broker: the connection manager is closed');
});

test('a manager that is closed logs no loss of its connection', async (t) => {
  const { connections, signal, logs } = world(t, [A]);
  connections.start();
  const { lost } = await connections.whenConnected(signal);
  await connections.close();
  t.true(lost.aborted);
  t.deepEqual(logs.lines, []);
});

test('a broker that blocks a connection that has been replaced is not logged', async (t) => {
  let letClose = () => {};
  const mayClose = new Promise<void>((resolve) => (letClose = resolve));
  const { connections, down, models, retired, logs } = world(t, [A, { ...B, preferred: false }], {
    mayClose,
  });
  t.teardown(() => letClose());
  down.add('a:5672');
  connections.start();
  await eventually('the other one is used', () => connections.current?.preferred === false);
  down.clear();
  await eventually('it is replaced', () => retired.length === 1);
  models.get('b:5672')?.emit('blocked', 'low on memory');
  t.deepEqual(logs.find(/^broker blocked$/), []);
  t.is(connections.problem, undefined);
});

test('what a connection has learned about its channels holds for the next one', async (t) => {
  const { connections, drop, signal } = world(t, [A]);
  connections.start();
  const first = await connections.whenConnected(signal);
  const refusal = new Error("NOT_ALLOWED - number of channels opened for user 'guest' has reached the limit");
  first.channelLimit.learn(Object.assign(refusal, { code: 530 }), 20);
  drop('a:5672');
  await eventually('the loss is seen', () => first.lost.aborted);
  const second = await connections.whenConnected(signal);
  t.is(second.channelLimit.within(Infinity), 10);
});

test('any number of messages may wait for a connection without a warning of Node', async (t) => {
  const { connections, signal } = world(t, [A]);
  const warnings = await warningsDuring(async () => {
    const waiting = Array.from({ length: 12 }, async () => connections.whenConnected(signal));
    connections.start();
    await Promise.all(waiting);
  });
  t.deepEqual(warnings, []);
  t.is(EventEmitter.defaultMaxListeners, 10, 'it still warns of others');
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
function slowFirst(t: ExecutionContext, second: BrokerAddress = B) {
  const clock = new ManualClock();
  const logs = logLines();
  const brokers = { a: new EmbeddedBroker(), b: new EmbeddedBroker() };
  const asked: string[] = [];
  const closed: string[] = [];
  let known: BrokerAddress[] = [A, second];
  let respond = () => {};
  let isDown = true;
  const connect: Connect = async (url, options) => {
    const { hostname } = new URL(url);
    asked.push(hostname);
    if (hostname === 'a') await new Promise<void>((resolve) => (respond = resolve));
    else if (isDown) throw new Error('b is down');
    const model = await brokers[hostname === 'a' ? 'a' : 'b'].connect(url, options);
    model.once('close', () => closed.push(hostname));
    return model;
  };
  const connections = new ConnectionManager({
    connect,
    brokers: async () => known,
    name: 'test',
    onConnected: async () => {},
    clock,
    log: logs.log,
  });
  t.teardown(async () => connections.close());
  connections.start();
  const times = (host: string) => asked.filter((each) => each === host).length;
  const until = async (what: string, reached: () => boolean) =>
    eventually(what, () => {
      clock.advance(50);
      return reached();
    });
  return {
    connections,
    clock,
    logs,
    asked,
    closed,
    times,
    until,
    respond: () => respond(),
    up: () => void (isDown = false),
    /** Changes the brokers. */
    changeTo: (to: BrokerAddress[]) => {
      known = to;
      connections.brokersChanged();
    },
    dropSecond: () => brokers.b.dropConnections(),
  };
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

test('a broker that responds when another one is used already is disconnected', async (t) => {
  const { connections, closed, until, respond, up } = slowFirst(t);
  up();
  await until('the other one is connected', () => connections.current !== undefined);
  respond();
  await eventually('the first one is disconnected', () => closed.length === 1);
  t.deepEqual(closed, ['a']);
  t.is(connections.current?.broker, 'amqp://b:5672');
});

test('an attempt that takes long ends when the brokers change, and is no failure', async (t) => {
  const { connections, asked, up, changeTo, clock, logs } = slowFirst(t);
  up();
  await eventually('the first one is tried', () => asked.length === 1);
  const begun = clock.now();
  changeTo([B]);
  await eventually('the other one is connected', () => connections.current !== undefined);
  t.is(clock.now(), begun);
  t.deepEqual(asked, ['a', 'b']);
  t.deepEqual(logs.lines, []);
});

test('a preferred broker that does not respond keeps nobody from connecting to the other one again', async (t) => {
  const { connections, times, until, up, dropSecond, clock } = slowFirst(t, { ...B, preferred: false });
  up();
  await until('the other one is used', () => connections.current !== undefined);
  // The attempt that was made before has ended with that.
  await until('the preferred one is tried again', () => times('a') === 2);
  const before = times('b');
  const from = clock.now();
  dropSecond();
  await until('the other one is used again', () => times('b') > before && connections.current !== undefined);
  t.true(clock.now() - from < 5_000, `${clock.now() - from} ms`);
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
