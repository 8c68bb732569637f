import test from 'ava';
import { stringifyExactly } from '../../src/lib/exact-json.js';
import { ManagerClient } from '../../src/openaperture/manager-client.js';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { eventually } from '../support/eventually.js';
import { recordedUpstream } from '../support/recorded-upstream.js';
import type { StandInManager } from '../support/stand-in-manager.js';
import { ManualClock } from '../support/manual-clock.js';
import { notAborted, openManager, withToken } from './open-manager.js';

const ENVELOPE = { queue_name: '', id: null, status: 'not_started', request_body: {}, response_body: null };
const ANSWER = { ...ENVELOPE, id: 5, status: 'completed', response_body: 'done' };
const EVENT = {
  unique: true,
  type: 'unhandled_exception',
  severity: 'error',
  message: 'it failed',
  data: { component: 'fleet_manager' },
} as const;
const MODULE = { hostname: 'one', type: 'fleet_manager', status: 'active', workload: [] } as const;
const BIG = 9_007_199_254_740_993n;

type Ask = (client: ManagerClient, options?: { signal: AbortSignal }) => Promise<unknown>;

/** Every call of the API: how it is made, and its method and path. */
const CALLS: readonly { name: string; ask: Ask; method: string; path: string; repeatable: boolean }[] = [
  read('exchange', (client, options = notAborted()) => client.exchange(7, options), '/messaging/exchanges/7'),
  read(
    'exchangeBrokers',
    (client, options = notAborted()) => client.exchangeBrokers(7, options),
    '/messaging/exchanges/7/brokers',
  ),
  read('broker', (client, options = notAborted()) => client.broker(3, options), '/messaging/brokers/3'),
  read(
    'brokerConnections',
    (client, options = notAborted()) => client.brokerConnections(3, options),
    '/messaging/brokers/3/connections',
  ),
  read(
    'recordState',
    (client, options = notAborted()) => client.recordState(5, options),
    '/messaging/rpc_requests/5',
  ),
  read('record', (client, options = notAborted()) => client.record(5, options), '/messaging/rpc_requests/5'),
  {
    name: 'createRecord',
    ask: (client, options = notAborted()) => client.createRecord(ENVELOPE, options),
    method: 'POST',
    path: '/messaging/rpc_requests',
    repeatable: false,
  },
  {
    name: 'saveRecord',
    ask: (client, options = notAborted()) => client.saveRecord(5, JSON.stringify(ANSWER), options),
    method: 'PUT',
    path: '/messaging/rpc_requests/5',
    repeatable: true,
  },
  {
    name: 'deleteRecord',
    ask: (client, options = notAborted()) => client.deleteRecord(5, options),
    method: 'DELETE',
    path: '/messaging/rpc_requests/5',
    repeatable: true,
  },
  {
    name: 'registerModule',
    ask: (client, options = notAborted()) => client.registerModule(7, MODULE, options),
    method: 'POST',
    path: '/messaging/exchanges/7/modules',
    repeatable: true,
  },
  {
    name: 'sendSystemEvent',
    ask: (client, options = notAborted()) => client.sendSystemEvent(EVENT, options),
    method: 'POST',
    path: '/system_events',
    repeatable: false,
  },
];

function read(name: string, ask: Ask, path: string) {
  return { name, ask, method: 'GET', path, repeatable: true };
}

/** What every call of the table finds. */
function furnish(manager: StandInManager): void {
  manager.addExchange(7);
  manager.addBroker(3);
  manager.addRecord(5);
}

const API = /^\/(messaging|system_events)/;

for (const { name, ask, method, path, repeatable } of CALLS) {
  test(`${name} is ${method} ${path} with the documented headers`, async (t) => {
    const { manager, client } = await openManager(t);
    furnish(manager);
    await ask(client);
    const [call, ...more] = manager.callsTo(API);
    t.like(call, { method, path });
    t.like(call?.headers, { accept: 'application/json', 'content-type': 'application/json' });
    t.deepEqual(more, []);
  });

  test(`${name} is tried again while the Manager refuses connections`, async (t) => {
    const { manager, client, clock, whileTimePasses } = await openManager(t);
    furnish(manager);
    await client.broker(3, notAborted());
    await manager.down();
    const asked = ask(client);
    await eventually('the first try has failed', () => clock.pending > 0);
    await manager.up();
    await whileTimePasses(asked);
    t.pass();
  });

  test(`${name} is ${repeatable ? 'repeated' : 'not repeated'} when its outcome is unknown`, async (t) => {
    const { manager, client, whileTimePasses } = await openManager(t);
    furnish(manager);
    for (const fault of [{ status: 500 }, { status: 503 }, { status: 429 }, {}] as const) {
      const end = manager.fail({ ...fault, path: API, times: 2 });
      const before = manager.callsTo(API).length;
      const asked = whileTimePasses(ask(client));
      if (repeatable) await asked;
      else {
        const error = await t.throwsAsync(asked, { instanceOf: ManagerError });
        t.like(error, {
          kind: 'status' in fault ? 'failed' : 'unreachable',
          temporary: true,
          notSent: false,
        });
      }
      t.is(manager.callsTo(API).length - before, repeatable ? 3 : 1);
      furnish(manager);
      end();
    }
  });

  test(`${name} is not repeated when the response says that repeating is useless`, async (t) => {
    const { manager, client, clock } = await openManager(t);
    furnish(manager);
    const elsewhere = { location: `${manager.url}/elsewhere` };
    const refused = '{"errors":[{"message":"One or more fields were invalid"}]}';
    for (const [fault, expected, message] of [
      [{ status: 302, headers: elsewhere }, { kind: 'failed', temporary: true }, /302.*MANAGER_URL/],
      [{ status: 403 }, { kind: 'refused', temporary: true }, /403.*OAUTH_CLIENT_ID/],
      [
        { status: 404, body: '404 page not found\n' },
        { kind: 'invalid_response', temporary: true },
        /404, which is not a response of the Manager's API: check MANAGER_URL/,
      ],
      [
        { status: 400, body: '{"message":"no route"}' },
        { kind: 'invalid_response', temporary: true },
        /400, which is not/,
      ],
      [
        { status: 422, body: refused },
        { kind: 'failed', temporary: false },
        /422: One or more fields were inv/,
      ],
    ] as const) {
      const end = manager.fail({ ...fault, path: API });
      const before = manager.calls.length;
      const error = await t.throwsAsync(ask(client), { instanceOf: ManagerError });
      t.like(error, { ...expected, status: fault.status });
      t.regex(error?.message ?? '', message);
      t.is(manager.callsTo(API).length, manager.calls.length - 1, 'one token, no redirect followed');
      t.true(manager.calls.length - before <= 2);
      t.is(clock.pending, 0);
      end();
    }
  });

  test(`${name} ends with the caller's reason when it is aborted`, async (t) => {
    const { manager, client } = await openManager(t);
    furnish(manager);
    const release = manager.hold(API);
    const leaving = new AbortController();
    const asked = ask(client, { signal: leaving.signal });
    await eventually('the Manager is asked', () => manager.callsTo(API).length > 0);
    leaving.abort(new Error('no longer wanted'));
    await t.throwsAsync(asked, { message: 'no longer wanted' });
    release();
    await t.throwsAsync(ask(client, { signal: AbortSignal.abort(new Error('never wanted')) }), {
      message: 'never wanted',
    });
  });
}

test('no call waits forever for a Manager that does not respond', async (t) => {
  const opened = await openManager(t, { timeoutMs: 500 });
  const { manager, client, whileTimePasses } = opened;
  furnish(manager);
  await withToken(opened);
  t.teardown(manager.hold(API));
  const asked = CALLS.map(async ({ ask }) => t.throwsAsync(ask(client), { instanceOf: ManagerError }));
  for (const error of await whileTimePasses(Promise.all(asked))) {
    t.is(error?.kind, 'unreachable');
    t.regex(error?.message ?? '', /no response within 500 ms.*MANAGER_URL/);
  }
});

test('of more calls than there are connections, the time of each counts from its turn', async (t) => {
  /** Makes 80 calls, of which 32 are sent at a time and get no response. @returns how many were sent */
  const sentWithin = async (timeoutMs: number) => {
    const opened = await openManager(t, { timeoutMs });
    const { manager, client } = opened;
    manager.addRecord(5);
    await withToken(opened);
    t.teardown(manager.hold(API));
    const before = manager.callsTo(/rpc_requests/).length;
    const calls = Array.from({ length: 80 }, async () =>
      t.throwsAsync(client.recordState(5, { ...notAborted(), tries: 1 }), { instanceOf: ManagerError }),
    );
    await Promise.all(calls);
    return manager.callsTo(/rpc_requests/).length - before;
  };
  // A busy machine may send none of the later ones within a short time.
  const sent: number[] = [];
  for (let timeoutMs = 500; Math.max(0, ...sent) <= 32 && timeoutMs < 60_000; timeoutMs *= 4)
    sent.push(await sentWithin(timeoutMs));
  t.true(Math.max(...sent) > 32, `${sent.join(', ')} were sent`);
});

test('the responses are read as the API documents them', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addExchange(7, { failoverExchangeId: 8, routingKey: 'root.seven', rootExchangeName: 'root' });
  manager.restrict(7, [11, 12]);
  manager.addBroker(3, {
    failoverBrokerId: 4,
    connections: [
      { username: 'u', password: 'p', host: 'h', port: 5673, virtualHost: 'v' },
      { virtualHost: null },
    ],
  });
  manager.addRecord(5, { status: 'completed', requestBody: { action: 'a' }, responseBody: [1] });
  t.deepEqual(await client.exchange(7, notAborted()), {
    id: 7,
    failoverExchangeId: 8,
    routingKey: 'root.seven',
    rootExchangeName: 'root',
  });
  t.deepEqual(await client.exchangeBrokers(7, notAborted()), [11, 12], 'brokers, not restrictions');
  t.deepEqual(await client.broker(3, notAborted()), { id: 3, failoverBrokerId: 4 });
  t.deepEqual(await client.brokerConnections(3, notAborted()), [
    { username: 'u', password: 'p', host: 'h', port: 5673, virtualHost: 'v' },
    { username: 'guest', password: 'guest', host: 'broker3.example.com', port: null, virtualHost: null },
  ]);
  t.deepEqual(await client.record(5, notAborted()), {
    status: 'completed',
    requestBody: { action: 'a' },
    responseBody: [1],
  });
});

test('a missing object of the Manager is `not_found`, or undefined where absence is a valid result', async (t) => {
  const { client } = await openManager(t);
  for (const lookup of [
    client.exchange(7, notAborted()),
    client.exchangeBrokers(7, notAborted()),
    client.broker(3, notAborted()),
    client.brokerConnections(3, notAborted()),
    client.record(5, notAborted()),
    client.registerModule(7, MODULE, notAborted()),
  ]) {
    const error = await t.throwsAsync(lookup, { instanceOf: ManagerError });
    t.like(error, { kind: 'not_found', status: 404, temporary: false });
  }
  t.is(await client.recordState(5, notAborted()), undefined);
  t.false(await client.saveRecord(5, JSON.stringify(ANSWER), notAborted()));
  t.false(await client.deleteRecord(5, notAborted()));
});

test('a record is not missing while only the response to its PUT says so', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addRecord(5);
  for (const body of ['', undefined]) {
    manager.fail({ status: 404, path: API, method: 'PUT', times: 1, ...(body !== undefined && { body }) });
    const saved = client.saveRecord(5, JSON.stringify(ANSWER), notAborted());
    const error = await t.throwsAsync(saved, { instanceOf: ManagerError, message: /but the record exists$/ });
    t.like(error, { kind: 'invalid_response', status: 404, temporary: true });
  }
});

test('a record waits for its reply until it is completed or failed, whatever else its caller wrote into it', async (t) => {
  const { manager, client } = await openManager(t);
  for (const [status, state] of [
    ['not_started', 'open'],
    ['in_progress', 'open'],
    ['completed', 'answered'],
    ['error', 'answered'],
  ] as const) {
    manager.addRecord(5, { status, requestBody: { action: 'list_units' } });
    t.deepEqual(await client.recordState(5, notAborted()), { state, requestBody: { action: 'list_units' } });
  }
  manager.fail({
    status: 200,
    path: API,
    body: `{"status":"completed","request_body":${'1'.repeat(2_000)}}`,
  });
  t.deepEqual(await client.recordState(5, notAborted()), { state: 'open', requestBody: null });
});

test('a call whose caller does its own retries is made once', async (t) => {
  const { manager, client, clock } = await openManager(t);
  manager.fail({ status: 503, path: API });
  for (const call of [
    client.recordState(5, { ...notAborted(), tries: 1 }),
    client.saveRecord(5, JSON.stringify(ANSWER), { ...notAborted(), tries: 1 }),
    client.exchange(7, { ...notAborted(), tries: 1 }),
  ])
    await t.throwsAsync(call, { instanceOf: ManagerError });
  t.is(manager.callsTo(API).length, 3);
  t.is(clock.pending, 0);
});

test('ids beyond the range of a number are sent and read without rounding', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addExchange(BIG, { failoverExchangeId: BIG + 2n });
  manager.restrict(BIG, [BIG + 4n]);
  manager.addBroker(BIG, { failoverBrokerId: BIG + 6n });
  t.like(await client.exchange(BIG, notAborted()), { id: BIG, failoverExchangeId: BIG + 2n });
  t.deepEqual(await client.exchangeBrokers(BIG, notAborted()), [BIG + 4n]);
  t.like(await client.broker(BIG, notAborted()), { failoverBrokerId: BIG + 6n });
  manager.nextRecordId = BIG;
  t.is(await client.createRecord(ENVELOPE, notAborted()), BIG);
  t.true(await client.saveRecord(BIG, stringifyExactly({ ...ANSWER, id: BIG }), notAborted()));
  t.regex(manager.records.get(String(BIG))?.saved ?? '', /"id":9007199254740993,/);
});

test('the id of a new record is read from a path and from a whole URL', async (t) => {
  const { manager, client } = await openManager(t);
  manager.nextRecordId = 41;
  t.is(await client.createRecord(ENVELOPE, notAborted()), 41);
  manager.absoluteLocations = true;
  t.is(await client.createRecord(ENVELOPE, notAborted()), 42);
  t.deepEqual(manager.callsTo(API)[0]?.body, ENVELOPE);
});

for (const location of [
  undefined,
  '',
  '/messaging/rpc_requests',
  '/messaging/rpc_requests/x',
  '/a/-1',
  '/a/1.5',
]) {
  test(`a record whose Location is ${location} has no id`, async (t) => {
    const { manager, client } = await openManager(t);
    const headers: Record<string, string> = location === undefined ? {} : { location };
    manager.fail({ status: 201, path: API, body: '', headers });
    const error = await t.throwsAsync(client.createRecord(ENVELOPE, notAborted()), {
      instanceOf: ManagerError,
    });
    t.is(error?.kind, 'invalid_response');
  });
}

test('a reply is saved whole', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addRecord(5);
  const json = stringifyExactly({ ...ANSWER, response_body: { count: 2n ** 64n } });
  t.true(await client.saveRecord(5, json, notAborted()));
  t.like(manager.records.get('5'), { status: 'completed', saved: json });
});

test('a reply counts as not saved when an unrelated page responds with 200', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addRecord(5);
  manager.fail({ status: 200, method: 'PUT', body: '<html>We are back soon</html>' });
  const error = await t.throwsAsync(client.saveRecord(5, JSON.stringify(ANSWER), notAborted()), {
    instanceOf: ManagerError,
  });
  t.like(error, { kind: 'invalid_response', temporary: true });
});

test('an event that the Manager already knows is not an error', async (t) => {
  const { manager, client } = await openManager(t);
  t.is(await client.sendSystemEvent(EVENT, notAborted()), 'created');
  t.is(await client.sendSystemEvent(EVENT, notAborted()), 'known');
  t.is(manager.events.length, 1);
});

const exchange = { id: 7, failover_exchange_id: null, routing_key: 'k', root_exchange_name: 'r' };
const connection = { username: 'u', password: 'p', host: 'h', port: null, virtual_host: '/' };
const UNUSABLE: readonly (readonly [string, Ask, string])[] = [
  ...['', '<html>', 'null', '[]', '"text"', '{"id":7'].map(
    (body) => ['exchange', (client: ManagerClient) => client.exchange(7, notAborted()), body] as const,
  ),
  ...[
    { ...exchange, id: undefined },
    { ...exchange, id: '7' },
    { ...exchange, id: 7.5 },
    { ...exchange, failover_exchange_id: 'eight' },
    { ...exchange, routing_key: null },
    { ...exchange, root_exchange_name: 5 },
  ].map(
    (body) =>
      [
        'exchange',
        (client: ManagerClient) => client.exchange(7, notAborted()),
        JSON.stringify(body),
      ] as const,
  ),
  ...['{}', '[5]', '[{"id":1}]'].map(
    (body) =>
      ['exchangeBrokers', (client: ManagerClient) => client.exchangeBrokers(7, notAborted()), body] as const,
  ),
  ...['{}', '{"id":3,"failover_broker_id":"4"}'].map(
    (body) => ['broker', (client: ManagerClient) => client.broker(3, notAborted()), body] as const,
  ),
  ...[
    {},
    [null],
    [{ ...connection, username: null }],
    [{ ...connection, password: 5 }],
    [{ ...connection, host: '' }],
    [{ ...connection, host: 'user@host' }],
    [{ ...connection, host: 'host/path' }],
    [{ ...connection, port: 0 }],
    [{ ...connection, port: 65_536 }],
    [{ ...connection, port: '5672' }],
    [{ ...connection, virtual_host: 5 }],
  ].map(
    (body) =>
      [
        'brokerConnections',
        (client: ManagerClient) => client.brokerConnections(3, notAborted()),
        JSON.stringify(body),
      ] as const,
  ),
  ...['[]', '{}', '{"status":5}'].map(
    (body) => ['record', (client: ManagerClient) => client.record(5, notAborted()), body] as const,
  ),
];

test('a response that does not match the API is refused', async (t) => {
  const { manager, client } = await openManager(t);
  for (const [name, ask, body] of UNUSABLE) {
    const end = manager.fail({ status: 200, path: API, body });
    const before = manager.callsTo(API).length;
    const error = await t.throwsAsync(ask(client), { instanceOf: ManagerError }, `${name}: ${body}`);
    t.like(error, { kind: 'invalid_response', temporary: true });
    t.regex(error?.message ?? '', /check MANAGER_URL/);
    t.is(manager.callsTo(API).length, before + 1, 'it is not asked again');
    end();
  }
});

test('a response that is far too long is not read', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t);
  manager.fail({ status: 200, path: API, body: `"${'x'.repeat(33 * 1024 * 1024)}"` });
  const error = await t.throwsAsync(whileTimePasses(client.record(5, notAborted())), {
    instanceOf: ManagerError,
  });
  t.is(error?.kind, 'invalid_response');
});

test('a Manager that stays down is abandoned after three tries, and the message names its setting', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t);
  await client.recordState(5, notAborted());
  await manager.down();
  const error = await t.throwsAsync(whileTimePasses(client.broker(3, notAborted())), {
    instanceOf: ManagerError,
  });
  t.like(error, { kind: 'unreachable', temporary: true, notSent: true });
  t.regex(error?.message ?? '', /ECONNREFUSED.*MANAGER_URL/);
  t.true(error?.message.includes(manager.host));
});

for (const [name, header] of [
  ['seconds', '7'],
  ['a date', new Date(new ManualClock().wallTime() + 7_000).toUTCString()],
] as const) {
  test(`Retry-After in ${name} is honoured`, async (t) => {
    const { manager, client, whileTimePasses } = await openManager(t);
    furnish(manager);
    manager.fail({ status: 429, headers: { 'retry-after': header }, path: API, times: 1 });
    await whileTimePasses(client.broker(3, notAborted()), 100);
    const [first = 0, second = 0] = manager.callsTo(API).map(({ at }) => at);
    t.true(second >= Math.min(first + 7_000, 1_007_000), `${first} ${second}`);
    t.true(second <= first + 8_000);
  });
}

test('a Retry-After of a day waits half a minute, and an invalid one does not wait', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t);
  furnish(manager);
  manager.fail({ status: 503, headers: { 'retry-after': '86400' }, path: API, times: 1 });
  manager.fail({ status: 503, headers: { 'retry-after': 'soon' }, path: API, times: 1 });
  await whileTimePasses(client.broker(3, notAborted()));
  const [first = 0, second = 0, third = 0] = manager.callsTo(API).map(({ at }) => at);
  t.true(second - first >= 30_000);
  t.true(third - second < 30_000);
});

test('a caller can leave while the call waits for its next try', async (t) => {
  const { manager, client, clock } = await openManager(t);
  manager.fail({ status: 503, path: API });
  const leaving = new AbortController();
  const asked = client.broker(3, { signal: leaving.signal });
  await eventually('a try has failed', () => clock.pending > 0);
  leaving.abort(new Error('no longer wanted'));
  await t.throwsAsync(asked, { message: 'no longer wanted' });
  t.is(clock.pending, 0);
});

test('closing ends calls in flight and later ones', async (t) => {
  const { manager, client } = await openManager(t);
  const release = manager.hold(API);
  const asked = client.broker(3, notAborted());
  await eventually('the Manager is asked', () => manager.callsTo(API).length > 0);
  await client.close();
  t.like(await t.throwsAsync(asked, { instanceOf: ManagerError }), { kind: 'unreachable', temporary: true });
  t.like(await t.throwsAsync(client.broker(3, notAborted()), { instanceOf: ManagerError }), {
    kind: 'unreachable',
  });
  release();
});

test('a Manager below a path is called there', async (t) => {
  const { manager, clock } = await openManager(t);
  for (const end of ['/api', '/api/', '/api/?x=1#y']) {
    const client = new ManagerClient({
      url: `${manager.url}${end}`,
      oauth: { url: manager.oauthUrl, clientId: manager.clientId, clientSecret: manager.clientSecret },
      clock,
    });
    t.teardown(() => client.close());
    await t.throwsAsync(client.broker(3, notAborted()));
    t.is(manager.calls.at(-1)?.path, '/api/messaging/brokers/3');
  }
});

test('who watches is told of each call by its path without ids, and of that for a token', async (t) => {
  const { watch, calls } = recordedUpstream();
  const { client, manager } = await openManager(t, { watch });
  manager.addExchange(7, { rootExchangeName: 'exchange', routingKey: 'key' });
  await client.exchange(7, notAborted());
  t.is(await client.recordState(13, notAborted()), undefined);
  t.deepEqual(
    calls.map(({ kind, operation, outcome }) => `${kind} ${operation} ${outcome}`),
    [
      'manager POST token ok',
      'manager GET messaging/exchanges/{id} ok',
      'manager GET messaging/rpc_requests/{id} ok',
    ],
  );
  t.is(calls[1]?.host, new URL(manager.url).host);
});
