import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import { FleetManagerError } from '../../src/client/client.js';
import { HTTP_STATUSES } from '../../src/gateway/http-status.js';
import { httpTokens } from '../access/http-tokens-of.js';
import { eventually } from '../support/eventually.js';
import { DESCRIPTIONS, DONE, type Gateway, openGateway } from './open-gateway.js';

interface Answered {
  status: number;
  body: Record<string, unknown>;
  headers: Headers;
}

async function ask(url: string, init: RequestInit = {}): Promise<Answered> {
  const response = await fetch(url, init);
  const content = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: content === '' ? {} : JSON.parse(content),
  };
}

async function post(
  { url }: Gateway,
  body: unknown,
  { action = 'look', headers = {} }: { action?: string; headers?: Record<string, string> } = {},
): Promise<Answered> {
  return ask(`${url}/v1/actions/${action}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

/** Sends a request with headers that fetch does not allow to set. */
async function rawGet(port: number, path: string, headers: Record<string, string>): Promise<Answered> {
  const request = httpRequest({ port, host: '127.0.0.1', path, headers, agent: false, setHost: false }).end();
  const [response] = await once(request, 'response');
  return { status: response.statusCode, headers: new Headers(), body: JSON.parse(await text(response)) };
}

async function socketTo(t: ExecutionContext, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

function isError(
  t: ExecutionContext,
  { status, body }: Answered,
  expected: [status: number, code: string, reason: RegExp],
): void {
  t.is(status, expected[0]);
  t.is(body.status, 'error');
  const { code, errors } = body.response_body as { code: string; errors: string[] };
  t.is(code, expected[1]);
  t.is(errors.length, 1);
  t.regex(errors[0] ?? '', expected[2]);
}

test("a call is passed on, and the reply's envelope comes back", async (t) => {
  const gateway = await openGateway(t);
  const answer = await post(gateway, { etcd_token: 'abc', action_parameters: { name: 'web' } });
  t.is(answer.status, 200);
  t.deepEqual(answer.body, DONE);
  t.is(gateway.asked.length, 1);
  const [[action, options] = []] = gateway.asked;
  t.is(action, 'look');
  t.like(options, { cluster: 'abc', parameters: { name: 'web' }, timeoutMs: 30_000 });
});

test('a field that is missing or null is left out of the call', async (t) => {
  const gateway = await openGateway(t);
  for (const body of [{}, { etcd_token: null, action_parameters: null }]) {
    t.is((await post(gateway, body)).status, 200);
    const [, options] = gateway.asked.at(-1) ?? [];
    t.like(options, { cluster: undefined, parameters: undefined });
  }
});

test('a read may be sent again after a lost connection, a change may not', async (t) => {
  const gateway = await openGateway(t);
  await post(gateway, {}, { action: 'look' });
  await post(gateway, {}, { action: 'change' });
  await post(gateway, {}, { action: 'unknown' });
  t.deepEqual(
    gateway.asked.map(([, { resend }]) => resend),
    [true, false, false],
  );
});

test('a call has the idempotency key that its header gives, in quotes or bare', async (t) => {
  const gateway = await openGateway(t);
  for (const [sent, key] of [
    ['"8e03978e-40d5-43dd"', '8e03978e-40d5-43dd'],
    ['8e03978e-40d5-43dd', '8e03978e-40d5-43dd'],
    ['"two words"', 'two words'],
  ] as const) {
    const answer = await post(gateway, {}, { action: 'change', headers: { 'Idempotency-Key': sent } });
    t.is(answer.status, 200);
    t.is(answer.headers.get('idempotency-replayed'), null);
    t.is(gateway.asked.at(-1)?.[1].idempotencyKey, key);
  }
  await post(gateway, {});
  t.is(gateway.asked.at(-1)?.[1].idempotencyKey, undefined);
});

test('an idempotency key that is none, or is two, is refused', async (t) => {
  const gateway = await openGateway(t);
  const wrong = ['', '""', 'two words', 'a, b', '"a", "b"', '"a"; b=1', 'k'.repeat(129), 'cl\u00e9', 'a\tb'];
  for (const sent of wrong) {
    const answer = await post(gateway, {}, { headers: { 'idempotency-key': sent } });
    isError(t, answer, [400, 'invalid_request', /^the header idempotency-key must be one key of 1 to 128/]);
  }
  const twice = httpRequest(`${gateway.url}/v1/actions/change`, { method: 'POST', agent: false });
  twice.setHeader('content-type', 'application/json');
  twice.setHeader('idempotency-key', ['a', 'b']);
  const [response] = await once(twice.end('{}'), 'response');
  t.is(response.statusCode, 400);
  response.resume();
  t.deepEqual(gateway.asked, []);
});

test('a reply to an earlier request says so in a header, and has the same body', async (t) => {
  const gateway = await openGateway(t, async () => ({ ...DONE, replayed: true }));
  const answer = await post(gateway, {}, { action: 'change', headers: { 'idempotency-key': 'k' } });
  t.is(answer.headers.get('idempotency-replayed'), 'true');
  t.deepEqual(answer.body, DONE);
});

for (const [code, http] of Object.entries(HTTP_STATUSES)) {
  test(`a reply with the code ${code} has the status ${http}`, async (t) => {
    const answer = {
      status: 'error' as const,
      response_body: { errors: ['no'], code, details: { a: 1 } },
      id: 3,
    };
    const fromService = await post(await openGateway(t, async () => answer), {});
    t.is(fromService.status, http);
    t.deepEqual(fromService.body, answer);
    const fromClient = await post(
      await openGateway(t, async () => {
        throw new FleetManagerError(code, 'no');
      }),
      {},
    );
    t.is(fromClient.status, http);
    isError(t, fromClient, [http, code, /^no$/]);
  });
}

test("a plugin's own code gets its status from its name", async (t) => {
  for (const [code, status] of [
    ['disk_not_found', 404],
    ['invalid_mode', 400],
    ['disk_full', 500],
    ['toString', 500],
    [undefined, 500],
    [3, 500],
  ] as const) {
    const gateway = await openGateway(t, async () => ({
      status: 'error',
      response_body: { errors: ['no'], code },
    }));
    t.is((await post(gateway, {})).status, status, String(code));
  }
});

test('an unexpected failure is logged, and the response shows no detail', async (t) => {
  const gateway = await openGateway(t, async () => {
    throw new TypeError('secret detail');
  });
  const answer = await post(gateway, {});
  isError(t, answer, [500, 'internal', /the service's log has the reason/]);
  t.false(JSON.stringify(answer.body).includes('secret'));
  t.regex(String(gateway.logs.find(/failed unexpectedly/)[0]?.error), /secret detail/);
});

test('a body that is not an object is refused', async (t) => {
  const gateway = await openGateway(t);
  for (const body of ['[]', '"x"', '3', 'null', 'true'])
    isError(t, await post(gateway, body), [400, 'invalid_request', /must be a JSON object/]);
  for (const body of ['{', '', '{"a":}', 'etcd_token=abc'])
    isError(t, await post(gateway, body), [400, 'invalid_request', /JSON|json/]);
  t.is(gateway.asked.length, 0);
});

test('a body with other keys, or keys of other types, is refused', async (t) => {
  const gateway = await openGateway(t);
  for (const [body, reason] of [
    [{ token: 'abc' }, /unknown key 'token'/],
    [{ ['k'.repeat(500)]: 1 }, /unknown key 'k{100}'/],
    [{ etcd_token: 3 }, /etcd_token must be a string/],
    [{ etcd_token: ['abc'] }, /etcd_token must be a string/],
    [{ action_parameters: 'name=web' }, /action_parameters must be an object/],
    [{ action_parameters: [] }, /action_parameters must be an object/],
    ['{"__proto__": {"etcd_token": "abc"}}', /./],
  ] as const)
    isError(t, await post(gateway, body), [400, 'invalid_request', reason]);
  t.is(gateway.asked.length, 0);
});

test('parameters that are nested too deep are refused before they are sent', async (t) => {
  const gateway = await openGateway(t, undefined, { maxBodyBytes: 100_000 });
  const deep = (levels: number) => `{"action_parameters": {"a": ${'['.repeat(levels)}${']'.repeat(levels)}}}`;
  isError(t, await post(gateway, deep(40)), [400, 'invalid_parameters', /nested more than 32 levels/]);
  isError(t, await post(gateway, deep(9_000)), [400, 'invalid_request', /nested more than 100 levels/]);
  t.is(gateway.asked.length, 0);
});

test('a body that would make a too large message is refused', async (t) => {
  const gateway = await openGateway(t);
  const body = (bytes: number) => {
    const bare = { action_parameters: { a: '' } };
    return { action_parameters: { a: 'x'.repeat(bytes - JSON.stringify(bare).length) } };
  };
  isError(t, await post(gateway, body(4_097)), [413, 'request_too_large', /too large/]);
  isError(t, await post(gateway, body(4_000)), [413, 'request_too_large', /too large/]);
  t.is((await post(gateway, body(3_500))).status, 200);
  t.is(gateway.asked.length, 1);
  // Encoded, each of these has 21 digits.
  const numbers = `{"action_parameters": {"a": [${Array(300).fill('1e20').join()}]}}`;
  isError(t, await post(gateway, numbers), [413, 'request_too_large', /too large: the limit is 3584 bytes/]);
  t.is(gateway.asked.length, 1);
});

test('a whole number reaches the action with all its digits, and one that cannot is refused', async (t) => {
  const gateway = await openGateway(t);
  t.is((await post(gateway, '{"action_parameters": {"n": 12345678901234567890}}')).status, 200);
  t.deepEqual(gateway.asked[0]?.[1].parameters, { n: 12345678901234567890n });
  for (const [number, reason] of [
    ['1e999', /beyond the range/],
    ['1'.repeat(156), /more than 155 digits/],
  ] as const) {
    const body = `{"action_parameters": {"n": ${number}}}`;
    isError(t, await post(gateway, body), [400, 'invalid_request', reason]);
  }
  t.is(gateway.asked.length, 1);
});

test('a body of too many values is refused before anything is built of it', async (t) => {
  const gateway = await openGateway(t, undefined, { maxBodyBytes: 1_000_000 });
  const body = `{"action_parameters": {"list": [${'1,'.repeat(100_000)}1]}}`;
  isError(t, await post(gateway, body), [400, 'invalid_request', /more than 100000 values and keys/]);
  t.is(gateway.asked.length, 0);
});

test('a request that the broker refuses for its size gets 413 with the limit of the broker', async (t) => {
  const gateway = await openGateway(t, () => {
    throw new FleetManagerError('request_too_large', 'the broker accepts at most 65536 bytes', {
      limit: 65_536,
    });
  });
  const refused = await post(gateway, { action_parameters: { a: 'x' } });
  isError(t, refused, [413, 'request_too_large', /65536/]);
  t.like(refused.body.response_body, { details: { limit: 65_536 } });
});

test('only JSON is accepted, which a web page cannot send without permission', async (t) => {
  const gateway = await openGateway(t);
  const url = `${gateway.url}/v1/actions/look`;
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/plain; application/json',
  ])
    isError(t, await ask(url, { method: 'POST', headers: { 'content-type': type }, body: '{}' }), [
      415,
      'invalid_request',
      /^send content-type: application\/json$/,
    ]);
  const compressed = { 'content-type': 'application/json', 'content-encoding': 'gzip' };
  isError(t, await ask(url, { method: 'POST', headers: compressed, body: '{}' }), [
    415,
    'invalid_request',
    /without content-encoding/,
  ]);
  isError(t, await ask(url, { method: 'POST' }), [
    400,
    'invalid_request',
    /must be a JSON object, sent as application\/json/,
  ]);
  t.is(gateway.asked.length, 0);
  const charset = { 'content-type': 'application/json; charset=utf-8' };
  t.is((await ask(url, { method: 'POST', headers: charset, body: '{}' })).status, 200);
});

test('a browser that asks whether it may call is not reported so', async (t) => {
  const gateway = await openGateway(t);
  const headers = { origin: 'https://evil.example', 'access-control-request-method': 'POST' };
  const answer = await ask(`${gateway.url}/v1/actions/look`, { method: 'OPTIONS', headers });
  t.is(answer.status, 405);
  t.deepEqual(
    [...answer.headers.keys()].filter((name) => name.startsWith('access-control')),
    [],
  );
});

test('an unknown path gets an error in the same envelope', async (t) => {
  const { url } = await openGateway(t);
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/v2/actions'],
    ['PUT', '/v1/actions/look/now'],
    ['POST', '/v1/actions/a/b'],
  ] as const)
    isError(t, await ask(url + path, { method }), [404, 'invalid_request', /unknown path/]);
});

test('a method that a path does not allow is refused with the allowed methods, and the body is not read', async (t) => {
  const { url } = await openGateway(t);
  for (const [method, path, allowed] of [
    ['GET', '/v1/actions/look', 'POST'],
    ['PUT', '/v1/actions/look?x', 'POST'],
    ['POST', '/v1/actions', 'GET, HEAD'],
    ['DELETE', '/livez', 'GET, HEAD'],
    ['POST', '/readyz', 'GET, HEAD'],
  ] as const) {
    const body = method === 'GET' ? undefined : 'x'.repeat(10_000);
    const answer = await ask(url + path, { method, body });
    isError(t, answer, [405, 'invalid_request', / only allows (POST|GET and HEAD)$/]);
    t.is(answer.headers.get('allow'), allowed);
  }
});

test('invalid HTTP gets an error in the same envelope', async (t) => {
  const { port } = await openGateway(t);
  for (const [sent, status, reason] of [
    ['NONSENSE\r\n\r\n', 400, /invalid HTTP request/],
    [
      `GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
      431,
      /headers are too large/,
    ],
  ] as const) {
    const socket = await socketTo(t, port);
    socket.write(sent);
    const [head = '', body = ''] = (await text(socket)).split('\r\n\r\n');
    t.regex(
      head,
      new RegExp(
        `^HTTP/1\\.1 ${status} .*content-length: ${Buffer.byteLength(body)}\\r\\nx-request-id: [0-9a-f-]{36}$`,
        's',
      ),
    );
    isError(t, { status, headers: new Headers(), body: JSON.parse(body) }, [
      status,
      'invalid_request',
      reason,
    ]);
  }
  t.is((await ask(`http://127.0.0.1:${port}/livez`)).status, 200);
});

test('an invalid path gets an error in the same envelope', async (t) => {
  const { url } = await openGateway(t);
  isError(t, await ask(`${url}/v1/actions/%E0%A4%A`, { method: 'POST' }), [
    400,
    'invalid_request',
    /not a valid url/,
  ]);
  isError(t, await ask(`${url}/v1/actions/${'a'.repeat(101)}`, { method: 'POST' }), [
    414,
    'invalid_request',
    /./,
  ]);
});

test('the header timeout-ms sets the deadline of the call', async (t) => {
  const gateway = await openGateway(t);
  for (const [sent, passedOn] of [
    ['1', 1],
    ['1500', 1_500],
    ['300000', 300_000],
    ['99999999999', 300_000],
  ] as const) {
    t.is((await post(gateway, {}, { headers: { 'timeout-ms': sent } })).status, 200);
    t.is(gateway.asked.at(-1)?.[1].timeoutMs, passedOn);
  }
  const asked = gateway.asked.length;
  for (const sent of ['0', '-5', 'soon', '', '1e3', '0x10', 'NaN'])
    isError(t, await post(gateway, {}, { headers: { 'timeout-ms': sent } }), [
      400,
      'invalid_request',
      /timeout-ms must be a number/,
    ]);
  t.is(gateway.asked.length, asked);
});

test('a caller that disconnects ends its call, and that is not a failure', async (t) => {
  const gateway = await openGateway(
    t,
    async (_action, { signal }) =>
      new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
  );
  const caller = new AbortController();
  const call = ask(`${gateway.url}/v1/actions/look`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{}',
    signal: caller.signal,
  });
  const signal = await eventually('the call is made', () => gateway.asked[0]?.[1].signal);
  t.false(signal.aborted);
  caller.abort();
  await t.throwsAsync(call, { any: true });
  await eventually('the call is ended', () => signal.aborted);
  t.is((await ask(`${gateway.url}/livez`)).status, 200);
  t.deepEqual(gateway.logs.find(/failed/), []);
});

test('many calls over one connection leave nothing behind on it', async (t) => {
  const gateway = await openGateway(t);
  const warnings: string[] = [];
  const warned = ({ name }: Error) => warnings.push(name);
  process.on('warning', warned);
  t.teardown(() => process.off('warning', warned));
  const socket = await socketTo(t, gateway.port);
  const call = `POST /v1/actions/look HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`;
  let answers = 0;
  socket.on('data', (chunk: Buffer) => (answers += chunk.toString().split('HTTP/1.1 200').length - 1));
  for (let i = 1; i <= 30; i++) {
    socket.write(call);
    await eventually(`answer ${i}`, () => answers === i);
  }
  t.deepEqual(warnings, []);
});

test('a request that arrives too slowly is refused, and its connection closed', async (t) => {
  const { port } = await openGateway(t, undefined, { arrivalMs: 100 });
  for (const sent of [
    'GET /livez HTTP/1.1\r\nhost: loc',
    'POST /v1/actions/look HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{',
  ]) {
    const socket = await socketTo(t, port);
    socket.write(sent);
    t.regex(await text(socket), /^HTTP\/1\.1 408 /);
  }
});

test('without a token only the own addresses and localhost are accepted as host', async (t) => {
  const { port } = await openGateway(t);
  for (const host of ['localhost', 'LocalHost', '127.0.0.1', '[::1]', '10.0.0.1'])
    for (const suffix of ['', `:${port}`])
      t.is((await rawGet(port, '/v1/actions', { host: host + suffix })).status, 200, host);
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    '',
  ])
    isError(t, await rawGet(port, '/v1/actions', { host }), [
      403,
      'forbidden',
      /by its address or as localhost/,
    ]);
  isError(t, await rawGet(port, '/v1/actions', { host: 'evil.example', 'x-forwarded-host': 'localhost' }), [
    403,
    'forbidden',
    /./,
  ]);
});

const TOKEN = '0123456789abcdef';

test('with HTTP_TOKEN set, a request without the token gets no information and runs nothing', async (t) => {
  const gateway = await openGateway(t, undefined, {
    authenticate: httpTokens({ token: TOKEN }).authenticate,
  });
  const { url } = gateway;
  for (const authorization of [
    undefined,
    '',
    TOKEN,
    'Bearer',
    'Bearer ',
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(1)}`,
    `Basic ${TOKEN}`,
    `Bearer ${TOKEN} ${TOKEN}`,
  ]) {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    for (const path of ['/v1/actions', '/nowhere', '/livez/', '/readyz/../v1/actions']) {
      const answer = await ask(url + path, { headers });
      isError(t, answer, [401, 'forbidden', /send a token .* as Authorization: Bearer TOKEN|no such token/]);
      t.is(answer.headers.get('www-authenticate'), 'Bearer');
    }
    isError(t, await post(gateway, {}, { headers }), [401, 'forbidden', /./]);
  }
  t.is(gateway.asked.length, 0);
});

test('with its token the gateway responds under any host name', async (t) => {
  const gateway = await openGateway(t, undefined, {
    authenticate: httpTokens({ token: TOKEN }).authenticate,
  });
  for (const authorization of [`Bearer ${TOKEN}`, `bearer ${TOKEN}`]) {
    t.is((await post(gateway, {}, { headers: { authorization } })).status, 200);
    t.is((await rawGet(gateway.port, '/v1/actions', { host: 'fleet.example', authorization })).status, 200);
  }
});

test('a call is made in the name of the caller whose token was sent', async (t) => {
  const { authenticate } = httpTokens({ token: TOKEN });
  const gateway = await openGateway(t, undefined, { authenticate });
  await post(gateway, {}, { headers: { authorization: `Bearer ${TOKEN}`, 'x-caller': 'another' } });
  t.deepEqual(gateway.asked[0]?.[1].from, {
    caller: { name: 'http-token', verifiedBy: 'token' },
    door: 'http',
  });
});

test('without tokens nobody knows who calls, whatever the call says', async (t) => {
  const gateway = await openGateway(t);
  await post(gateway, {}, { headers: { authorization: `Bearer ${TOKEN}`, 'x-caller': 'another' } });
  t.deepEqual(gateway.asked[0]?.[1].from, { caller: ANONYMOUS, door: 'http' });
});

test('the refusal of a call has the reason of the one who checks its token', async (t) => {
  const gateway = await openGateway(t, undefined, { authenticate: () => ({ refused: 'it has expired' }) });
  isError(t, await post(gateway, {}), [401, 'forbidden', /^it has expired$/]);
});

test('every response has the id that the request has in the log: its own, or else a new one', async (t) => {
  const { authenticate } = httpTokens({ token: TOKEN });
  const gateway = await openGateway(t, undefined, { authenticate });
  const authorization = `Bearer ${TOKEN}`;
  const idOf = async (path: string, headers: Record<string, string>, method = 'GET') => {
    const init = { method, headers, ...(method === 'POST' && { body: '{}' }) };
    return (await ask(gateway.url + path, init)).headers.get('x-request-id') ?? '';
  };
  const json = { authorization, 'content-type': 'application/json' };
  const given = { 'x-request-id': 'from/the:proxy=1' };
  const bad = `/v1/actions/${'a'.repeat(101)}`;
  for (const [path, headers, method] of [
    ['/livez', {}],
    ['/v1/actions', { authorization }],
    ['/v1/actions', {}],
    ['/nowhere', { authorization }],
    ['/v1/actions/look', json, 'POST'],
    ['/v1/actions/look', { authorization, 'content-type': 'text/plain' }, 'POST'],
    [bad, json, 'POST'],
    ['/%', json],
  ] as const) {
    t.is(await idOf(path, { ...headers, ...given }, method), 'from/the:proxy=1', path);
    const [one, other] = [await idOf(path, headers, method), await idOf(path, headers, method)];
    t.regex(one, /^[0-9a-f-]{36}$/, path);
    t.not(one, other);
  }
  const ids = gateway.asked.map(([, { requestId }]) => requestId);
  t.is(ids[0], 'from/the:proxy=1');
  t.is(new Set(ids).size, 3);
});

test('a malformed id of a request is replaced by a new one', async (t) => {
  const gateway = await openGateway(t);
  for (const malformed of ['', 'a b', 'a,b', '"a"', 'a'.repeat(129)]) {
    const { headers } = await post(gateway, {}, { headers: { 'x-request-id': malformed } });
    t.regex(headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  }
});

test('the catalogue reports every action', async (t) => {
  const { url } = await openGateway(t);
  const { status, body } = await ask(`${url}/v1/actions`);
  t.is(status, 200);
  t.deepEqual(body, { actions: DESCRIPTIONS });
});

test('health is reported to everyone, and readiness with reasons', async (t) => {
  let reasons = ['no connection to a broker: connect ECONNREFUSED'];
  const { url, port } = await openGateway(t, undefined, {
    authenticate: httpTokens({ token: TOKEN }).authenticate,
    notReady: () => reasons,
  });
  t.deepEqual((await ask(`${url}/livez`)).body, { alive: true });
  t.deepEqual((await ask(`${url}/livez?verbose=1`)).body, { alive: true });
  t.is((await rawGet(port, '/livez', { host: 'node.example' })).status, 200);
  const notReady = await ask(`${url}/readyz`);
  t.is(notReady.status, 503);
  t.deepEqual(notReady.body, { ready: false, reasons });
  reasons = [];
  const ready = await ask(`${url}/readyz`);
  t.is(ready.status, 200);
  t.deepEqual(ready.body, { ready: true, reasons: [] });
});

test('stopping lets earlier calls end', async (t) => {
  let finish = () => {};
  const gateway = await openGateway(t, async () => {
    await new Promise<void>((resolve) => (finish = resolve));
    return DONE;
  });
  const call = post(gateway, {});
  await eventually('the call is made', () => gateway.asked.length === 1);
  const stopped = gateway.server.stop();
  finish();
  t.deepEqual((await call).body, DONE);
  await stopped;
  await t.throwsAsync(ask(gateway.url));
});

test('stopping does not wait for a caller that never ends its request', async (t) => {
  const gateway = await openGateway(t);
  const socket = await socketTo(t, gateway.port);
  socket.write(
    'POST /v1/actions/look HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
  );
  const idle = await socketTo(t, gateway.port);
  const closed = Promise.all([once(socket, 'close'), once(idle, 'close')]);
  await gateway.server.stop();
  await t.notThrowsAsync(closed);
});

test('on localhost the gateway responds at every address of that name', async (t) => {
  const { port } = await openGateway(t, undefined, { host: 'localhost' });
  const addresses = await lookup('localhost', { all: true });
  for (const { address, family } of addresses) {
    const { status } = await ask(`http://${family === 6 ? `[${address}]` : address}:${port}/livez`);
    t.is(status, 200, address);
  }
});

test('a port that is taken is reported when the gateway starts', async (t) => {
  const { port } = await openGateway(t);
  const taken = await t.throwsAsync(openGateway(t, undefined, { port }));
  t.is(
    taken?.message,
    `127.0.0.1:${port} is in use (another fleet-manager?): set HTTP_PORT to another port, 0 or off`,
  );
  t.like(taken?.cause, { code: 'EADDRINUSE' });
  const nowhere = await t.throwsAsync(openGateway(t, undefined, { host: '192.0.2.1' }));
  t.regex(nowhere?.message ?? '', /^HTTP_HOST and HTTP_PORT cannot be used: .*EADDRNOTAVAIL/);
});
