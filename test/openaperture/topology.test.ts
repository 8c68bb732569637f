import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { ConnectionManager } from '../../src/rpc/connection-manager.js';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { callerTopology, serviceTopology, type Topology } from '../../src/openaperture/topology.js';
import { notAborted, openManager, type OpenManager } from './open-manager.js';

const MINUTE = 60_000;

async function openTopology(t: ExecutionContext, options: Parameters<typeof openManager>[1] = {}) {
  const opened = await openManager(t, options);
  const { client, clock, logs } = opened;
  opened.manager.addExchange(7);
  opened.manager.addBroker(3);
  const topology = serviceTopology({ manager: client, exchangeId: 7, brokerId: 3, clock, log: logs.log });
  return { ...opened, topology };
}

async function openCaller(t: ExecutionContext, destinationExchangeId = 9) {
  const opened = await openManager(t);
  const { manager, client, clock, logs } = opened;
  manager.addExchange(7);
  manager.addExchange(9, { routingKey: 'root.nine', rootExchangeName: 'root' });
  for (const id of [3, 4, 5, 6]) manager.addBroker(id);
  const source = { exchangeId: 7, brokerId: 3 };
  const topology = callerTopology({ manager: client, source, destinationExchangeId, clock, log: logs.log });
  return { ...opened, topology };
}

/** The hosts in the order of the addresses; hosts of failover brokers are marked. */
async function hostsOf(topology: Topology): Promise<string[]> {
  const addresses = await topology.brokers(notAborted());
  return addresses.map(
    ({ url, preferred }) =>
      `${new URL(url).hostname.replace('.example.com', '')}${preferred ? '' : ' (failover)'}`,
  );
}

test('the service connects to the connections of its broker, then to those of the failover broker', async (t) => {
  const { manager, topology } = await openTopology(t);
  manager.addBroker(3, { failoverBrokerId: 4, connections: [{ host: 'one', port: 5673 }, { host: 'two' }] });
  manager.addBroker(4, {
    connections: [{ host: '::1', username: 'a@b', password: 'p/w', virtualHost: 'v/h' }],
  });
  const addresses = await topology.brokers(notAborted());
  t.deepEqual(
    addresses.slice(0, 2).toSorted((a, b) => a.url.localeCompare(b.url)),
    [
      { url: 'amqp://guest:guest@one:5673/%2F', preferred: true },
      { url: 'amqp://guest:guest@two/%2F', preferred: true },
    ],
  );
  t.deepEqual(addresses.slice(2), [{ url: 'amqp://a%40b:p%2Fw@[::1]/v%2Fh', preferred: false }]);
});

test('messages for a queue go to the root exchange, by routing key and queue', async (t) => {
  const { manager, topology } = await openTopology(t);
  manager.addExchange(7, { routingKey: 'root.seven', rootExchangeName: 'root', failoverExchangeId: 8 });
  manager.addExchange(8, { routingKey: 'spare.eight', rootExchangeName: 'spare' });
  t.deepEqual(await topology.destination('system_modules', { preferred: true, ...notAborted() }), {
    exchange: 'root',
    routingKey: 'root.seven.system_modules',
  });
  t.deepEqual(
    await topology.destination('system_modules', { preferred: false, ...notAborted() }),
    { exchange: 'spare', routingKey: 'spare.eight.system_modules' },
    'on the failover broker',
  );
});

test('without a failover exchange, the exchange itself is used on the failover broker', async (t) => {
  const { topology } = await openTopology(t);
  const [on, off] = await Promise.all(
    [true, false].map((preferred) => topology.destination('queue', { preferred, ...notAborted() })),
  );
  t.deepEqual(on, off);
});

test("the Manager's responses are used for 5 minutes", async (t) => {
  const { manager, topology, clock } = await openTopology(t);
  t.deepEqual(await hostsOf(topology), ['broker3']);
  manager.addBroker(3, { connections: [{ host: 'moved' }] });
  const asked = manager.calls.length;
  clock.advance(5 * MINUTE - 1);
  t.deepEqual(await hostsOf(topology), ['broker3']);
  t.is(manager.calls.length, asked);
  clock.advance(1);
  t.deepEqual(await hostsOf(topology), ['moved']);
});

test('after a lost connection the Manager is queried again', async (t) => {
  const { manager, topology } = await openTopology(t);
  await hostsOf(topology);
  manager.addBroker(3, { connections: [{ host: 'moved' }] });
  topology.refresh();
  t.deepEqual(await hostsOf(topology), ['moved']);
});

test('concurrent look-ups share one request, and no caller can end it for the others', async (t) => {
  const { manager, topology } = await openTopology(t);
  const leaving = new AbortController();
  const left = topology.brokers({ signal: leaving.signal });
  const others = Array.from({ length: 10 }, () => hostsOf(topology));
  leaving.abort(new Error('no longer wanted'));
  await t.throwsAsync(left, { message: 'no longer wanted' });
  await Promise.all(others);
  t.is(manager.callsTo(/^\/messaging\/exchanges/).length, 1);
});

test('while the Manager is down for a minute, its earlier response stays in use, and this is logged once', async (t) => {
  const { manager, topology, clock, logs, whileTimePasses } = await openTopology(t);
  await hostsOf(topology);
  await manager.down();
  for (let second = 0; second < 60; second += 5) {
    topology.refresh();
    t.deepEqual(await whileTimePasses(hostsOf(topology), 100), ['broker3']);
    clock.advance(4_000);
  }
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], {
    level: 'warn',
    message: 'Manager lookup failed',
  });
  t.regex(String(logs.lines[0]?.reason), /MANAGER_URL/);
  await manager.up();
  manager.addBroker(3, { connections: [{ host: 'moved' }] });
  topology.refresh();
  t.deepEqual(await whileTimePasses(hostsOf(topology)), ['moved']);
  t.is(logs.find(/^Manager lookup restored$/).length, 1);
  t.is(logs.lines.length, 2);
});

test('a Manager that is down is not queried again immediately, unless a connection was lost', async (t) => {
  const { manager, topology, clock, whileTimePasses } = await openTopology(t);
  await hostsOf(topology);
  clock.advance(5 * MINUTE);
  manager.fail({ status: 503 });
  await whileTimePasses(hostsOf(topology), 100);
  const asked = manager.calls.length;
  await hostsOf(topology);
  t.is(manager.calls.length, asked);
  topology.refresh();
  await whileTimePasses(hostsOf(topology), 100);
  t.true(manager.calls.length > asked);
});

test('with a previous response available, a Manager that hangs is waited for 5 seconds', async (t) => {
  const { manager, topology, clock, until } = await openTopology(t);
  await hostsOf(topology);
  topology.refresh();
  t.teardown(manager.hold(/^\/messaging/));
  const begun = clock.now();
  let found: string[] | undefined;
  void hostsOf(topology).then((hosts) => (found = hosts));
  await until('the previous response is used', () => found !== undefined);
  t.deepEqual(found, ['broker3']);
  t.true(clock.now() - begun >= 5_000);
});

test('an unusable response does not replace a usable one', async (t) => {
  const { manager, topology } = await openTopology(t);
  await hostsOf(topology);
  topology.refresh();
  manager.fail({ status: 200, body: '<html>We are back soon</html>' });
  t.deepEqual(await hostsOf(topology), ['broker3']);
});

const MISSING: readonly (readonly [string, (manager: OpenManager['manager']) => void, RegExp])[] = [
  ['the exchange is missing', (manager) => manager.removeExchange(7), /no exchange 7: check EXCHANGE_ID/],
  ['the broker is missing', (manager) => manager.removeBroker(3), /no broker 3: check BROKER_ID/],
  [
    'the broker has no connections',
    (manager) => manager.addBroker(3, { connections: [] }),
    /broker 3 has no connections: add one there, or check BROKER_ID/,
  ],
  [
    'neither the broker nor its failover has connections',
    (manager) => {
      manager.addBroker(3, { connections: [], failoverBrokerId: 4 });
      manager.addBroker(4, { connections: [] });
    },
    /broker 3 has no connections/,
  ],
];

for (const [what, make, message] of MISSING) {
  test(`when ${what}, the error says what to check, at the start and later`, async (t) => {
    const { manager, topology } = await openTopology(t);
    await hostsOf(topology);
    make(manager);
    topology.refresh();
    for (let times = 0; times < 2; times++) {
      const error = await t.throwsAsync(topology.brokers(notAborted()), {
        instanceOf: ManagerError,
        message,
      });
      t.like(error, { kind: 'not_found', temporary: false });
    }
  });

  test(`when ${what}, a service reports so once in the log, and connects when it is fixed`, async (t) => {
    const { manager, topology, clock, logs, until } = await openTopology(t);
    make(manager);
    let connected = false;
    const connections = new ConnectionManager({
      connect: new EmbeddedBroker().connect,
      brokers: async () => {
        topology.refresh();
        return topology.brokers(notAborted());
      },
      name: 'test',
      onConnected: async () => {
        connected = true;
      },
      clock,
      log: logs.log,
    });
    connections.start();
    t.teardown(() => connections.close());
    const asked = () => manager.callsTo(/^\/messaging\/exchanges\/7$/).length;
    await until('it has tried ten times', () => asked() >= 10);
    const reported = logs.find(/^broker connection lost$/);
    t.is(reported.length, 1);
    t.regex(String(reported[0]?.reason), message);
    manager.addExchange(7);
    manager.addBroker(3);
    await until('it is connected', () => connected);
    t.is(logs.find(/lost/).filter(({ level }) => level === 'warn').length, 1);
  });
}

test('a Manager that is down at the start is an error that names its setting, and is queried again', async (t) => {
  const { manager, topology, whileTimePasses } = await openTopology(t);
  await manager.down();
  await t.throwsAsync(whileTimePasses(topology.brokers(notAborted())), {
    instanceOf: ManagerError,
    message: /OAUTH_LOGIN_URL/,
  });
  await manager.up();
  t.deepEqual(await whileTimePasses(hostsOf(topology)), ['broker3']);
});

test('a failover broker that the Manager names but does not have is left out, and logged once', async (t) => {
  const { manager, topology, logs } = await openTopology(t);
  manager.addExchange(7, { failoverExchangeId: 8 });
  manager.addBroker(3, { failoverBrokerId: 4 });
  for (let times = 0; times < 3; times++) {
    t.deepEqual(await hostsOf(topology), ['broker3']);
    topology.refresh();
  }
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], { level: 'warn', message: 'Manager data incomplete' });
  t.regex(String(logs.lines[0]?.missing), /failover exchange 8.*failover broker 4/);
  manager.addExchange(8);
  manager.addBroker(4);
  t.deepEqual(await hostsOf(topology), ['broker3', 'broker4 (failover)']);
  t.is(logs.lines.length, 2);
});

test('a broker without connections is replaced by its failover', async (t) => {
  const { manager, topology, logs } = await openTopology(t);
  manager.addBroker(3, { connections: [], failoverBrokerId: 4 });
  manager.addBroker(4);
  t.deepEqual(await hostsOf(topology), ['broker4 (failover)']);
  t.regex(String(logs.lines[0]?.missing), /broker 3 has no connections/);
});

test('a caller without restrictions uses its own broker, to the exchange that it calls', async (t) => {
  const { manager, topology } = await openCaller(t);
  manager.addBroker(3, { failoverBrokerId: 4 });
  t.deepEqual(await hostsOf(topology), ['broker3', 'broker4 (failover)']);
  t.deepEqual(await topology.destination('fleet_manager', { preferred: true, ...notAborted() }), {
    exchange: 'root',
    routingKey: 'root.nine.fleet_manager',
  });
});

test('a caller uses one of the brokers that the exchange it calls is restricted to', async (t) => {
  const { manager, topology } = await openCaller(t);
  manager.restrict(9, [5, 6]);
  manager.restrict(7, [4]);
  const first = new Set<string | undefined>();
  for (let times = 0; times < 100; times++) {
    const hosts = await hostsOf(topology);
    t.deepEqual(hosts.toSorted(), ['broker5', 'broker6']);
    first.add(hosts[0]);
  }
  t.is(first.size, 2, 'either is tried first at times');
});

test('a caller whose own exchange alone is restricted uses one of those brokers', async (t) => {
  const { manager, topology } = await openCaller(t);
  manager.restrict(7, [4]);
  manager.addBroker(4, { failoverBrokerId: 6 });
  t.deepEqual(await hostsOf(topology), ['broker4', 'broker6 (failover)']);
});

test('a restriction is followed by the broker that it names, not by its own id', async (t) => {
  const { manager, topology } = await openCaller(t);
  manager.restrict(9, [5]);
  // The id of the restriction itself.
  manager.addBroker(7_000, { connections: [{ host: 'wrong' }] });
  t.deepEqual(await hostsOf(topology), ['broker5']);
});

test('a caller within one exchange needs that exchange only', async (t) => {
  const { topology, manager } = await openCaller(t, 7);
  manager.removeExchange(9);
  t.deepEqual(await hostsOf(topology), ['broker3']);
});

test('a caller is reported what to check when an exchange is missing or no broker has connections', async (t) => {
  const { manager, topology } = await openCaller(t);
  const fails = async (message: RegExp) =>
    t.throwsAsync(topology.brokers(notAborted()), { instanceOf: ManagerError, message });
  manager.restrict(9, [5, 6]);
  manager.addBroker(5, { connections: [] });
  manager.addBroker(6, { connections: [] });
  await fails(/brokers 5, 6 have no connections.*restrictions/);
  manager.removeExchange(9);
  await fails(/no exchange 9: check the id of the exchange that requests go to/);
  manager.addExchange(9);
  manager.removeExchange(7);
  await fails(/no exchange 7: check EXCHANGE_ID/);
});
