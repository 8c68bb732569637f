import { connect as connectTcp } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { ManualClock } from './manual-clock.js';
import { StandInManager } from './stand-in-manager.js';

// The fake must behave like OpenAperture's Manager.

const RECORD = '/messaging/rpc_requests/5';
const ANSWER = { queue_name: '', id: '5', status: 'completed', request_body: {}, response_body: 'done' };
const MODULE = { hostname: 'one', type: 'fleet_manager', status: 'active', workload: [] };
const EVENT = { unique: true, type: 'failed', severity: 'error', message: 'it failed', data: { number: 1 } };

interface Reply {
  status: number;
  headers: Headers;
  text: string;
}

/** A stand-in, and a caller of it that has a token. */
async function open(t: ExecutionContext, options: Parameters<typeof StandInManager.start>[1] = {}) {
  const manager = await StandInManager.start(t, options);
  const login = await fetch(manager.oauthUrl, {
    method: 'POST',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    body: JSON.stringify({
      grant_type: 'client_credentials',
      client_id: manager.clientId,
      client_secret: manager.clientSecret,
    }),
  });
  const { access_token: token } = (await login.json()) as { access_token: string };
  const authorization = `Bearer access_token=${token}`;
  const ask = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Reply> => {
    const response = await fetch(`${manager.url}${path}`, {
      method,
      headers: { accept: 'application/json', 'content-type': 'application/json', authorization, ...headers },
      body: typeof body === 'string' || body === undefined ? body : JSON.stringify(body),
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const statusOf = async (...call: Parameters<typeof ask>) => (await ask(...call)).status;
  return { manager, ask, statusOf, authorization };
}

const errors = (...messages: string[]) =>
  JSON.stringify({ errors: messages.map((message) => ({ message })) });

test('nothing is accepted without a token, on another path, or in another form', async (t) => {
  const { manager, ask, statusOf, authorization } = await open(t);
  manager.addRecord(5);
  t.is(await statusOf('GET', RECORD), 200);
  for (const wrong of ['', authorization.replace('access_token=', ''), `${authorization}x`]) {
    const { status, headers, text } = await ask('GET', RECORD, undefined, { authorization: wrong });
    t.deepEqual([status, headers.get('content-type'), text], [401, 'text/plain', 'Unauthorized']);
  }
  t.is(await statusOf('GET', RECORD, undefined, { accept: 'text/html' }), 406);
  t.is(await statusOf('GET', '/messaging/elsewhere'), 404);
  t.is(await statusOf('PATCH', RECORD, '{}'), 404);
  t.is(await statusOf('PUT', RECORD, 'no JSON'), 400);
  t.is(await statusOf('PUT', RECORD, ANSWER, { 'content-type': 'text/plain' }), 415);
  t.is(await statusOf('PUT', RECORD, ANSWER), 204);
  manager.revokeTokens();
  t.is(await statusOf('GET', RECORD), 401);
});

test('a record needs only a status, and other keys are ignored', async (t) => {
  const { manager, ask, statusOf } = await open(t);
  const path = '/messaging/rpc_requests';
  t.is(await statusOf('POST', path, { status: 'not_started' }), 201);
  const made = await ask('POST', path, { ...ANSWER, status: 'anything', more: [1] });
  t.deepEqual([made.status, made.headers.get('location'), made.text], [201, `${path}/2`, '']);
  const refused = await ask('POST', path, { ...ANSWER, status: null });
  t.is(refused.text, errors('One or more fields for MessagingRpcRequest were invalid'));
  t.is(await statusOf('POST', path, { status: 'x'.repeat(256) }), 500);
  t.is(manager.records.size, 2);
  const saved = await ask('PUT', `${path}/1`, { status: 'completed', response_body: [], id: 'whatever' });
  t.deepEqual([saved.status, saved.headers.get('location'), saved.text], [204, `${path}/1`, '']);
  t.deepEqual(JSON.parse((await ask('GET', `${path}/1`)).text), {
    id: 1,
    status: 'completed',
    request_body: null,
    response_body: [],
    inserted_at: 'Mon, 01 Jun 2015 10:00:00 GMT',
    updated_at: 'Mon, 01 Jun 2015 10:00:00 GMT',
  });
  t.is(await statusOf('PUT', `${path}/1`, { response_body: [] }), 400);
  t.is(await statusOf('DELETE', `${path}/1`), 204);
});

test("a missing object gets the Manager's response: an error body, or none", async (t) => {
  const { ask } = await open(t);
  for (const [method, path, body, text] of [
    ['GET', RECORD, undefined, errors('MessagingRpcRequest was not found')],
    ['DELETE', RECORD, undefined, errors('MessagingRpcRequest was not found')],
    ['PUT', RECORD, ANSWER, ''],
    ['GET', '/messaging/exchanges/7', undefined, errors('MessagingExchange was not found')],
    ['GET', '/messaging/brokers/7', undefined, errors('MessagingBroker was not found')],
    ['POST', '/messaging/exchanges/7/modules', MODULE, errors('MessagingExchange was not found')],
  ] as const) {
    const reply = await ask(method, path, body);
    t.deepEqual([reply.status, reply.text], [404, text], `${method} ${path}`);
  }
  t.is((await ask('GET', '/messaging/rpc_requests/x')).status, 400);
});

test('a module that does not fit the columns disappears, because the previous one is deleted first', async (t) => {
  const { manager, ask, statusOf } = await open(t);
  manager.addExchange(7);
  const path = '/messaging/exchanges/7/modules';
  const fitting = { ...MODULE, workload: ['x'.repeat(251)] };
  const wide = { ...MODULE, workload: ['x'.repeat(252)] };
  t.is(await statusOf('POST', path, fitting), 201);
  t.deepEqual(manager.modules, [{ exchange: '7', ...fitting }]);
  const { status, text } = await ask('POST', path, wide);
  t.deepEqual([status, text], [500, errors('An unexpected error occured with MessagingExchangeModule')]);
  t.deepEqual(manager.modules, []);
  for (const key of ['hostname', 'type', 'status'] as const) {
    t.is(await statusOf('POST', path, { ...MODULE, [key]: 'x'.repeat(255) }), 201, key);
    t.is(await statusOf('POST', path, { ...MODULE, [key]: 'x'.repeat(256) }), 500, key);
  }
  t.is(await statusOf('POST', path, { ...MODULE, workload: undefined }), 400);
});

test('an event needs a type and a severity, and a unique one is accepted once an hour', async (t) => {
  const clock = new ManualClock();
  const { manager, ask, statusOf } = await open(t, { clock, tokenSeconds: 10_000 });
  const path = '/system_events';
  t.is(await statusOf('POST', path, { type: 'a', severity: 'error' }), 201);
  t.is(await statusOf('POST', path, { type: 'a' }), 400);
  for (const key of ['type', 'severity'] as const) {
    t.is(await statusOf('POST', path, { ...EVENT, type: 'wide', [key]: 'x'.repeat(255) }), 201, key);
    t.is(await statusOf('POST', path, { ...EVENT, type: 'wider', [key]: 'x'.repeat(256) }), 500, key);
  }
  t.is(await statusOf('POST', path, EVENT), 201);
  const { status, text } = await ask('POST', path, EVENT);
  t.deepEqual([status, text], [409, errors('A SystemEvent already exists with that identifier')]);
  t.is(await statusOf('POST', path, { ...EVENT, data: { number: 2 } }), 201);
  t.is(await statusOf('POST', path, { ...EVENT, unique: false }), 201);
  t.is(await statusOf('POST', path, { ...EVENT, data: undefined }), 409);
  clock.advance(60 * 60_000);
  t.is(await statusOf('POST', path, EVENT), 201);
  t.is(manager.events.length, 7);
});

test("a broker's connections have no port by default", async (t) => {
  const { manager, ask } = await open(t);
  manager.addBroker(3);
  t.like(JSON.parse((await ask('GET', '/messaging/brokers/3/connections')).text), [
    { messaging_broker_id: 3, port: null },
  ]);
});

test('a body of more than 8,000,000 bytes is not read: the response is 413, or the connection is cut', async (t) => {
  const body = (bytes: number) => {
    const [head = '', tail = ''] = JSON.stringify({ ...ANSWER, response_body: '@' }).split('@');
    return `${head}${'x'.repeat(bytes - head.length - tail.length)}${tail}`;
  };
  for (const [oversize, answer] of [
    ['answered', /^HTTP\/1\.1 413 /],
    ['cut', /^$/],
  ] as const) {
    const { manager, statusOf, authorization } = await open(t, { oversize });
    const record = manager.addRecord(5);
    t.is(await statusOf('PUT', RECORD, body(8_000_000)), 204);
    record.status = 'not_started';
    t.regex(await putRaw(manager.host, authorization, body(8_000_001)), answer);
    t.is(record.status, 'not_started');
  }
});

/** PUTs a reply and returns the response, even if the connection is closed while the body is sent. */
async function putRaw(host: string, authorization: string, body: string): Promise<string> {
  const [address, port] = host.split(':');
  const socket = connectTcp(Number(port), address);
  let received = '';
  socket.on('data', (data) => (received += String(data)));
  socket.on('error', () => {});
  const head = [
    `PUT ${RECORD} HTTP/1.1`,
    `host: ${host}`,
    'accept: application/json',
    'content-type: application/json',
    `authorization: ${authorization}`,
    `content-length: ${body.length}`,
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  await new Promise((resolve) => socket.once('close', resolve));
  return received;
}
