import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { ERROR_CODES } from '../../src/api/error-codes.js';
import { FleetManagerError } from '../../src/client/client.js';
import { httpStatusOf } from '../../src/gateway/http-status.js';
import { httpTokens } from '../access/http-tokens-of.js';
import { useUpFiles } from '../support/without-files.js';
import { DONE, openGateway, startGateway } from './open-gateway.js';

const PROBLEM = 'application/problem+json';
const BOTH = `application/json, ${PROBLEM}`;

interface Sent {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** Sends a request to look, or to another path, of a caller that wants problem details. */
async function send(port: number, { method = 'POST', path = '/v1/actions/look', headers, body }: Sent) {
  const request = httpRequest({
    port,
    host: '127.0.0.1',
    method,
    path,
    headers: { accept: BOTH, 'content-type': 'application/json', ...headers },
    agent: false,
  });
  request.end(body);
  const [response] = await once(request, 'response');
  return { status: response.statusCode, headers: response.headers, body: JSON.parse(await text(response)) };
}

for (const [code, { summary }] of Object.entries(ERROR_CODES))
  test(`the error ${code} is a problem with its status, its meaning and its details`, async (t) => {
    const { port } = await openGateway(t, async () => ({
      status: 'error',
      response_body: { errors: ['one', 'two'], code, details: { a: 2n ** 60n }, trace_id: 'f'.repeat(32) },
    }));
    const status = httpStatusOf(code);
    const answer = await send(port, { body: '{}' });
    t.is(answer.status, status);
    t.is(answer.headers['content-type'], PROBLEM);
    t.is(answer.headers.vary, 'accept');
    t.deepEqual(answer.body, {
      type: `urn:fleet-manager:error:${code}`,
      title: summary,
      status,
      detail: 'one; two',
      code,
      errors: ['one', 'two'],
      details: { a: 2 ** 60 },
      trace_id: 'f'.repeat(32),
    });
  });

test('an error without a code that can be named is a problem of the type about:blank', async (t) => {
  for (const [code, kept] of [
    [undefined, {}],
    [3, {}],
    ['a code', { code: 'a code' }],
    ['\ud800', { code: '\ud800' }],
    ['', { code: '' }],
  ] as const) {
    const { port } = await openGateway(t, async () => ({
      status: 'error',
      response_body: { errors: ['no'], code },
    }));
    t.deepEqual((await send(port, { body: '{}' })).body, {
      type: 'about:blank',
      title: 'Internal Server Error',
      status: 500,
      detail: 'no',
      errors: ['no'],
      ...kept,
    });
  }
});

test('a result is no problem, and an error is none for a caller that does not ask for problems', async (t) => {
  const { port } = await openGateway(t);
  const done = await send(port, { body: '{}' });
  t.deepEqual([done.status, done.headers['content-type']], [200, 'application/json; charset=utf-8']);
  t.deepEqual(done.body, DONE);
  for (const accept of ['*/*', 'application/json', `application/json, ${PROBLEM};q=0.5`]) {
    const refused = await send(port, { body: '[]', headers: { accept } });
    t.is(refused.headers['content-type'], 'application/json; charset=utf-8');
    t.is(refused.headers.vary, undefined);
    t.deepEqual(Object.keys(refused.body), ['status', 'response_body']);
  }
});

test('every refusal of the gateway is a problem', async (t) => {
  const plain = await openGateway(t);
  const secured = await openGateway(t, undefined, {
    authenticate: httpTokens({ token: '0123456789abcdef' }).authenticate,
  });
  const stopping = await openGateway(t);
  stopping.server.refuse();
  const failing = await openGateway(t, async () => {
    throw new TypeError('a defect');
  });
  const lost = await openGateway(t, async () => {
    throw new FleetManagerError('service_unavailable', 'no broker', { since: 1 });
  });
  for (const [gateway, sent, status, code] of [
    [secured, { body: '{}' }, 401, 'forbidden'],
    [secured, { method: 'GET', path: '/openapi.json' }, 401, 'forbidden'],
    [plain, { headers: { host: 'evil.example' }, body: '{}' }, 403, 'forbidden'],
    [plain, { path: '/nowhere', body: '{}' }, 404, 'invalid_request'],
    [plain, { method: 'PUT', body: '{}' }, 405, 'invalid_request'],
    [plain, { body: '{' }, 400, 'invalid_request'],
    [plain, { body: '[]' }, 400, 'invalid_request'],
    [plain, { headers: { 'timeout-ms': 'soon' }, body: '{}' }, 400, 'invalid_request'],
    [
      plain,
      { body: `{"action_parameters":{"a":${'['.repeat(40)}${']'.repeat(40)}}}` },
      400,
      'invalid_parameters',
    ],
    [plain, { path: '/v1/actions/%E0%A4%A', body: '{}' }, 400, 'invalid_request'],
    [plain, { path: `/v1/actions/${'a'.repeat(101)}`, body: '{}' }, 414, 'invalid_request'],
    [plain, { body: `"${'x'.repeat(5_000)}"` }, 413, 'request_too_large'],
    [plain, { headers: { 'content-type': 'text/plain' }, body: '{}' }, 415, 'invalid_request'],
    [stopping, { body: '{}' }, 503, 'service_unavailable'],
    [failing, { body: '{}' }, 500, 'internal'],
    [lost, { body: '{}' }, 503, 'service_unavailable'],
  ] as const) {
    const answer = await send(gateway.port, sent);
    const { errors, detail, ...body } = answer.body;
    t.is(answer.status, status, JSON.stringify(sent));
    t.is(answer.headers['content-type'], PROBLEM);
    t.like(body, { type: `urn:fleet-manager:error:${code}`, title: ERROR_CODES[code].summary, status, code });
    t.is(typeof answer.headers['x-request-id'], 'string');
    t.deepEqual(errors, [detail]);
    t.not(detail, '');
  }
  t.deepEqual((await send(lost.port, { body: '{}' })).body.details, { since: 1 });
});

test('a request that arrives too slowly is a problem only when its own headers ask for problems', async (t) => {
  const { port } = await openGateway(t, undefined, { arrivalMs: 100 });
  const post = (accept: string) =>
    `POST /v1/actions/look HTTP/1.1\r\nhost: localhost\r\naccept: ${accept}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n`;
  for (const [sent, type] of [
    [`${post(PROBLEM)}{`, PROBLEM],
    [`${post('application/json')}{`, 'application/json; charset=utf-8'],
    // The one before has ended.
    [`${post(PROBLEM)}{}${post('*/*')}{`, 'application/json; charset=utf-8'],
  ] as const) {
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    socket.write(sent);
    const said = await text(socket);
    const [, late = ''] = said.split('HTTP/1.1 408 ');
    const [head = '', body = ''] = late.split('\r\n\r\n');
    t.true(head.includes(`content-type: ${type}`), said);
    t.is('title' in JSON.parse(body), type === PROBLEM);
  }
});

if (process.platform === 'linux')
  test('a failure before the first request can be read is a problem too', async (t) => {
    const { port } = await startGateway(t);
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    const giveBack = useUpFiles(t);
    socket.write(`GET /v1/actions HTTP/1.1\r\nhost: localhost\r\naccept: ${PROBLEM}\r\n\r\n`);
    const answer = String((await once(socket, 'data'))[0]);
    giveBack();
    t.regex(answer, /^HTTP\/1\.1 500 [^]*content-type: application\/problem\+json\r\n[^]*"code":"internal"/);
  });
