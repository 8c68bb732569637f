import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { type ConnectionPolicy, HostPolicy } from '../../src/network/connection-policy.js';
import { HttpFailure } from '../../src/network/bounded-call.js';
import { HttpClient } from '../../src/network/http-client.js';
import { eventually } from '../support/eventually.js';
import { respondWith, serve } from './http-server.js';
import { collectGarbage } from '../support/collect-garbage.js';

const MIB = 1024 * 1024;

const notAborted = ({ json, timeoutMs = 60_000 }: { json?: unknown; timeoutMs?: number } = {}) => ({
  signal: new AbortController().signal,
  timeoutMs,
  body: JSON.stringify(json),
});

function open(t: ExecutionContext, policy?: ConnectionPolicy): HttpClient {
  const http = new HttpClient({ policy });
  t.teardown(() => http.close());
  return http;
}

async function failure(t: ExecutionContext, call: Promise<unknown>): Promise<HttpFailure> {
  const error = await t.throwsAsync(call, { instanceOf: HttpFailure });
  if (error === undefined) throw new Error('it did not fail');
  return error;
}

test('a response is its status and its JSON body', async (t) => {
  const http = open(t);
  for (const [status, body, expected] of [
    [200, '{"a": [1, "é"]}\n', { a: [1, 'é'] }],
    [404, '{"errorCode": 100}', { errorCode: 100 }],
    [200, '', undefined],
    [500, ' \n', undefined],
    [200, 'null', null],
  ] as const) {
    const server = await serve(t, respondWith(status, body, { 'content-type': 'text/plain' }));
    const answer = await http.call('GET', server.url, notAborted());
    t.is(answer.status, status);
    t.deepEqual(answer.json(), expected);
    t.is(answer.text, body);
    t.is(answer.headers.get('content-type'), 'text/plain');
  }
  const server = await serve(t, respondWith(204, ''));
  const answer = await http.call('DELETE', server.url, notAborted());
  t.deepEqual([answer.status, answer.json(), answer.text], [204, undefined, '']);
});

test('a body that cannot be parsed says why, without its text', async (t) => {
  const http = open(t);
  for (const [body, message] of [
    ['<html>', 'not valid JSON'],
    ['{"a": ', 'not valid JSON'],
    [`[0${',0'.repeat(700_000)}]`, 'it has more than 700000 values and keys'],
    ['['.repeat(101), 'nested more than 100 levels deep'],
  ] as const) {
    const server = await serve(t, respondWith(200, body));
    const answer = await http.call('GET', server.url, notAborted());
    t.throws(() => answer.json(), { instanceOf: SyntaxError, message });
    t.is(answer.text, body);
  }
});

test('a body is sent as JSON, with the one content type that fleet accepts', async (t) => {
  let received = '';
  const server = await serve(t, (request, response) => {
    request.on('data', (chunk) => (received += chunk));
    request.on('end', () => response.writeHead(201).end());
  });
  const { status } = await open(t).call('PUT', server.url, notAborted({ json: { name: 'é', options: [] } }));
  t.is(status, 201);
  t.is(received, '{"name":"é","options":[]}');
  t.is(server.requests[0]?.method, 'PUT');
  t.is(server.requests[0]?.headers['content-type'], 'application/json');
});

test('a call without a body sends no body and no content type', async (t) => {
  const server = await serve(t, respondWith(200, '{}'));
  await open(t).call('GET', server.url, notAborted());
  t.is(server.requests[0]?.headers['content-type'], undefined);
  t.is(server.requests[0]?.headers['content-length'], undefined);
});

test('connections are kept open from one call to the next', async (t) => {
  const server = await serve(t, respondWith(200, '{}'));
  const http = open(t);
  for (let times = 0; times < 20; times++) await http.call('GET', server.url, notAborted());
  // A second connection is made when a call arrives before the last connection is free.
  t.true(server.connections() <= 2, `${server.connections()} connections`);
});

test('a call on its own connection leaves no connection behind', async (t) => {
  const server = await serve(t, respondWith(200, '{}'));
  const http = open(t);
  for (let times = 0; times < 3; times++)
    await http.call('GET', server.url, { ...notAborted(), ownConnection: true });
  t.is(server.connections(), 3);
  await eventually('they are closed', () => server.open() === 0);
});

test('the headers of a client go with every call, and credentials only with their own call', async (t) => {
  const server = await serve(t, respondWith(200, '{}'));
  const headers = { accept: 'application/json', 'content-type': 'application/json' };
  const http = new HttpClient({ headers });
  t.teardown(() => http.close());
  await http.call('GET', server.url, { ...notAborted(), authorization: 'Bearer a' });
  await http.call('POST', server.url, notAborted({ json: {} }));
  t.like(server.requests[0]?.headers, { ...headers, authorization: 'Bearer a' });
  t.like(server.requests[1]?.headers, { ...headers, authorization: undefined });
});

test('no more calls are in progress than there may be connections', async (t) => {
  const waiting: (() => void)[] = [];
  const server = await serve(t, (_request, response) => {
    waiting.push(() => response.end('{}'));
  });
  const http = new HttpClient({ connections: 2 });
  t.teardown(() => http.close());
  const calls = [1, 2, 3].map(async () => http.call('GET', server.url, notAborted()));
  await eventually('two are in progress', () => waiting.length === 2);
  t.is(server.connections(), 2);
  waiting.shift()?.();
  await eventually('the third one is in flight', () => waiting.length === 2);
  for (const answer of waiting) answer();
  await Promise.all(calls);
  t.is(server.connections(), 2);
});

test('closing the client ends its connections and the calls that are in progress', async (t) => {
  const server = await serve(t, () => {});
  const http = new HttpClient();
  const call = failure(t, http.call('GET', server.url, notAborted()));
  await eventually('the call is in progress', () => server.requests.length === 1);
  await http.close();
  t.is((await call).message, 'UND_ERR_DESTROYED');
  await eventually('the connection is closed', () => server.open() === 0);
});

test('calls do not wait for each other', async (t) => {
  const server = await serve(t, (request, response) => {
    if (request.url === '/slow') return;
    response.end('{}');
  });
  const http = open(t);
  await http.call('GET', server.url, notAborted());
  const caller = new AbortController();
  const slow = http.call('GET', new URL('/slow', server.url), { signal: caller.signal, timeoutMs: 60_000 });
  await eventually('the slow one is in progress', () => server.requests.length === 2);
  t.is((await http.call('GET', server.url, notAborted())).status, 200);
  caller.abort(new Error('enough'));
  await t.throwsAsync(slow, { message: 'enough' });
});

test('a GET whose kept connection is lost is sent again, once and on a new connection', async (t) => {
  let losses = 0;
  const server = await serve(t, (request, response) => {
    if (losses-- > 0) request.socket.destroy();
    else response.end('{}');
  });
  const http = new HttpClient({ connections: 1 });
  t.teardown(() => http.close());
  const get = async () => http.call('GET', server.url, notAborted());
  await get();
  losses = 1;
  t.is((await get()).status, 200);
  t.is(server.requests.length, 3);
  await get();
  losses = 2;
  t.false((await failure(t, get())).notSent);
  t.is(server.requests.length, 6);
});

test('a GET whose new connection is lost is not sent again', async (t) => {
  const server = await serve(t, (request) => request.socket.destroy());
  t.false((await failure(t, open(t).call('GET', server.url, notAborted()))).notSent);
  t.is(server.requests.length, 1);
});

for (const method of ['PUT', 'DELETE'] as const) {
  test(`a ${method} that fails is not repeated, and may have been received`, async (t) => {
    const server = await serve(t, (request, response) => {
      if (request.url === '/fails') request.socket.destroy();
      else response.end('{}');
    });
    const http = open(t);
    const fails = () =>
      http.call(method, new URL('/fails', server.url), notAborted(method === 'PUT' ? { json: {} } : {}));
    t.false((await failure(t, fails())).notSent);
    await http.call('GET', server.url, notAborted());
    t.false((await failure(t, fails())).notSent, 'nor on a connection that was used before');
    t.is(server.requests.filter(({ url }) => url === '/fails').length, 2);
  });
}

for (const method of ['GET', 'PUT', 'DELETE'] as const) {
  test(`a ${method} with a response of 500 or 503 is not repeated`, async (t) => {
    const server = await serve(t, respondWith(503, '', { 'retry-after': '0' }));
    t.is((await open(t).call(method, server.url, notAborted())).status, 503);
    t.is(server.requests.length, 1);
  });
}

test('a refused connection and an unknown name certainly received nothing', async (t) => {
  const closed = await serve(t, respondWith(200));
  await closed.stop();
  const refused = await failure(t, open(t).call('PUT', closed.url, notAborted({ json: {} })));
  t.is(refused.message, 'ECONNREFUSED');
  t.true(refused.notSent);
  const nobody = new HostPolicy(undefined, async () => {
    throw Object.assign(new Error('no such host'), { code: 'ENOTFOUND' });
  });
  const unknown = await failure(
    t,
    open(t, nobody).call('PUT', new URL('http://a.test/'), notAborted({ json: {} })),
  );
  t.is(unknown.message, 'ENOTFOUND');
  t.true(unknown.notSent);
});

test('a host that does not accept the connection within three seconds received nothing', async (t) => {
  // A look-up that never ends keeps the connection from being made, as an unreachable machine does.
  const gone: ConnectionPolicy = { resolve: () => new Promise(() => {}) };
  // A connection that is being made keeps the process going, undici's timer for it does not.
  const going = setInterval(() => {}, 1_000);
  t.teardown(() => clearInterval(going));
  const late = await failure(
    t,
    open(t, gone).call('PUT', new URL('http://a.test/'), notAborted({ json: {} })),
  );
  t.is(late.message, 'UND_ERR_CONNECT_TIMEOUT');
  t.true(late.notSent);
});

test('a call ends at its time limit, before or during the response', async (t) => {
  const server = await serve(t, (request, response) => {
    if (request.url !== '/stalls') return;
    response.writeHead(200, { 'content-length': 100 });
    response.write('{"units": [');
  });
  const http = open(t);
  for (const path of ['/', '/stalls']) {
    const late = await failure(
      t,
      http.call('GET', new URL(path, server.url), notAborted({ timeoutMs: 300 })),
    );
    t.is(late.message, 'no response within 300 ms');
    t.false(late.notSent);
  }
  await eventually('the server sees the connections close', () => server.open() === 0);
});

test('a call ends at its time limit during the response, also after a garbage collection', async (t) => {
  const server = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('{"units": [');
  });
  const call = failure(t, open(t).call('GET', server.url, notAborted({ timeoutMs: 500 })));
  let ended = false;
  void call.then(() => (ended = true));
  await eventually('it ends', () => {
    collectGarbage();
    return ended;
  });
  t.is((await call).message, 'no response within 500 ms');
  await eventually('the server sees the connection close', () => server.open() === 0);
});

test('aborting ends a call during the response, with the reason itself', async (t) => {
  const server = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('{"units": [');
  });
  const caller = new AbortController();
  const call = open(t).call('GET', server.url, { signal: caller.signal, timeoutMs: 60_000 });
  await eventually('the call is in progress', () => server.requests.length === 1);
  const reason = new Error('the deadline passed');
  caller.abort(reason);
  t.is(await t.throwsAsync(call), reason);
  await eventually('the server sees the connection close', () => server.open() === 0);
});

test('a call that is already aborted opens no connection', async (t) => {
  const server = await serve(t, respondWith(200));
  const reason = new Error('gone');
  const call = open(t).call('GET', server.url, { signal: AbortSignal.abort(reason), timeoutMs: 60_000 });
  t.is(await t.throwsAsync(call), reason);
  t.is(server.connections(), 0);
});

test('a redirect is an ordinary response, and its target is not contacted', async (t) => {
  const target = await serve(t, respondWith(200, '{}'));
  const http = open(t);
  for (const status of [301, 302, 303, 307, 308]) {
    const server = await serve(t, respondWith(status, '', { location: target.url.href }));
    t.is((await http.call('GET', server.url, notAborted())).status, status);
    t.is((await http.call('PUT', server.url, notAborted({ json: {} }))).status, status);
  }
  t.is(target.connections(), 0);
});

test('32 MiB are read, and one byte more is too large', async (t) => {
  const http = open(t);
  const server = await serve(t, (request, response) => {
    response.end(Buffer.alloc(Number(request.url?.slice(1)), ' '));
  });
  t.is((await http.call('GET', new URL(`/${32 * MIB}`, server.url), notAborted())).json(), undefined);
  const large = await failure(t, http.call('GET', new URL(`/${32 * MIB + 1}`, server.url), notAborted()));
  t.true(large.tooLarge);
  t.false(large.notSent);
});

test('an endless body is cut off', async (t) => {
  const chunk = Buffer.alloc(MIB, ' ');
  const server = await serve(t, (_request, response) => {
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on('drain', more);
    more();
  });
  t.true((await failure(t, open(t).call('GET', server.url, notAborted()))).tooLarge);
  await eventually('the server sees the connection close', () => server.open() === 0);
});

for (const [encoding, bomb] of [
  ['gzip', gzipSync(Buffer.alloc(64 * MIB, ' '))],
  ['deflate', deflateSync(Buffer.alloc(64 * MIB, ' '))],
  ['br', brotliCompressSync(Buffer.alloc(64 * MIB, ' '))],
] as const) {
  test(`a small ${encoding} body that inflates to a very large one is cut off`, async (t) => {
    t.true(bomb.length < MIB);
    const server = await serve(t, respondWith(200, bomb, { 'content-encoding': encoding }));
    t.true((await failure(t, open(t).call('GET', server.url, notAborted()))).tooLarge);
  });
}

test('a port that HTTP clients do not use is named as the reason, and nothing is sent', async (t) => {
  const failed = await failure(t, open(t).call('GET', new URL('http://127.0.0.1:10080/'), notAborted()));
  t.true(failed.notSent);
  t.regex(failed.message, /do not use this port/);
});

for (const [what, raw] of [
  ['not HTTP at all', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['half a header', 'HTTP/1.1 200 OK\r\nContent-Le'],
  ['half a body', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}'],
  ['a body of two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}'],
  ['broken chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n'],
  ['a broken gzip body', 'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}'],
  ['endless headers', `HTTP/1.1 200 OK\r\n${'x-a: b\r\n'.repeat(100_000)}\r\n`],
] as const) {
  test(`a response with ${what} is a failure, and the request may have been received`, async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', () => socket.end(raw));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as AddressInfo;
    t.false(
      (await failure(t, open(t).call('GET', new URL(`http://127.0.0.1:${port}`), notAborted()))).notSent,
    );
  });
}

test('a URL with a password is refused without showing it', async (t) => {
  const server = await serve(t, respondWith(200));
  for (const user of ['user:pass-word', 'pass-word', ':pass-word']) {
    const error = await failure(
      t,
      open(t).call('GET', new URL(`http://${user}@${server.url.host}/`), notAborted()),
    );
    t.false(inspect(error, { depth: 20, showHidden: true }).includes('pass-word'));
    t.true(error.notSent);
  }
  t.is(server.connections(), 0);
});

for (const host of [
  '127.0.0.1',
  '[::ffff:127.0.0.1]',
  '[::1]',
  '0.0.0.0',
  '2130706433',
  '0x7f.1',
  'localhost',
  'a.test',
]) {
  test(`no connection is made to ${host}, which means a forbidden address`, async (t) => {
    const server = await serve(t, respondWith(200));
    const lookup = async (name: string) => [{ address: name === 'localhost' ? '::1' : '127.0.0.1' }];
    for (const policy of [new HostPolicy(undefined, lookup), new HostPolicy(['10.0.0.0/8', '*'], lookup)]) {
      const url = new URL(`http://${host}:${server.port}/`);
      await t.throwsAsync(open(t, policy).call('GET', url, notAborted()), { code: 'forbidden' });
    }
    t.is(server.connections(), 0);
  });
}

test('of the addresses of a name only an allowed one is connected to', async (t) => {
  const allowed = await serve(t, respondWith(200));
  const forbidden = await serve(t, respondWith(200), { host: '127.0.7.1', port: allowed.port });
  const both = async () => [{ address: '127.0.7.1' }, { address: '127.0.0.1' }];
  const url = new URL(`http://a.test:${allowed.port}/`);
  t.is((await open(t, new HostPolicy(['127.0.0.1'], both)).call('GET', url, notAborted())).status, 200);
  t.is(allowed.requests[0]?.headers.host, `a.test:${allowed.port}`);
  t.is(forbidden.connections(), 0);
});

test('a name is looked up once for a connection, so a second response cannot lead elsewhere', async (t) => {
  const allowed = await serve(t, respondWith(200, '{}', { connection: 'close' }));
  const forbidden = await serve(t, respondWith(200), { host: '127.0.7.2', port: allowed.port });
  let lookups = 0;
  const rebinding = async () => [{ address: lookups++ === 0 ? '127.0.0.1' : '127.0.7.2' }];
  const http = open(t, new HostPolicy(['127.0.0.1', 'a.test'], rebinding));
  const url = new URL(`http://a.test:${allowed.port}/`);
  t.is((await http.call('GET', url, notAborted())).status, 200);
  t.is(lookups, 1);
  // The connection was closed, so the next call needs another one.
  await eventually('the connection is closed', () => allowed.open() === 0);
  await t.throwsAsync(http.call('GET', url, notAborted()), { code: 'forbidden' });
  t.is(lookups, 2);
  t.is(allowed.requests.length, 1);
  t.is(forbidden.connections(), 0);
});

test('a client without a policy may connect anywhere', async (t) => {
  const server = await serve(t, respondWith(200));
  t.is((await open(t).call('GET', server.url, notAborted())).status, 200);
  t.is((await open(t).call('GET', new URL(`http://localhost:${server.port}`), notAborted())).status, 200);
});
