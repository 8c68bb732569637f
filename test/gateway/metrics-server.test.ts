import { once } from 'node:events';
import { HttpTokens } from '../../src/access/http-tokens.js';
import { get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { MetricsServer, type MetricsServerOptions } from '../../src/gateway/metrics-server.js';
import { systemClock } from '../../src/lib/clock.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { startGateway } from './open-gateway.js';

const TOKEN = 'the-token-for-metrics';
const OTHER_TOKEN = 'the-token-for-callers';
const metrics = { contentType: 'text/plain; version=0.0.4', text: async () => 'up 1\n' };

async function opened(t: ExecutionContext, options: Partial<MetricsServerOptions> = {}) {
  const logs = logLines();
  const server = new MetricsServer({
    host: '127.0.0.1',
    port: 0,
    token: undefined,
    metrics,
    clock: systemClock,
    log: logs.log,
    ...options,
  });
  const url = new URL(await server.start());
  t.teardown(async () => server.stop());
  return { url, logs };
}

/** The response to a GET: its status, its content type and its body. */
async function read(url: URL, headers: Record<string, string> = {}, path = url.pathname) {
  const [response] = (await once(get(new URL(path, url), { agent: false, headers }), 'response')) as [
    IncomingMessage,
  ];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode, type: response.headers['content-type'], body };
}

test('the metrics are at /metrics, and nothing else is', async (t) => {
  const { url } = await opened(t);
  t.deepEqual(await read(url), { status: 200, type: 'text/plain; version=0.0.4', body: 'up 1\n' });
  t.is((await read(url, {}, '/metrics?a=b')).status, 200);
  t.is((await read(url, {}, '/')).status, 404);
  t.is((await fetch(url, { method: 'HEAD' })).status, 200);
  const post = await fetch(url, { method: 'POST', body: 'x' });
  t.is(post.status, 405);
  t.is(post.headers.get('allow'), 'GET, HEAD');
});

test('without a token only the names of this machine are accepted, against DNS rebinding', async (t) => {
  const { url } = await opened(t);
  t.is((await read(url, { host: 'rebound.example.org' })).status, 403);
  t.is((await read(url, { host: 'localhost' })).status, 200);
});

test('with a token nothing is told without it', async (t) => {
  const { url } = await opened(t, { token: TOKEN });
  for (const authorization of ['', `Bearer ${TOKEN}x`, TOKEN, `Basic ${TOKEN}`]) {
    const { status, body } = await read(url, { authorization });
    t.is(status, 401, authorization);
    t.false(body.includes('up'));
  }
  t.is((await read(url, {}, '/other')).status, 401);
  t.is((await read(url, { authorization: `Bearer ${TOKEN}`, host: 'worker.example.org' })).status, 200);
});

test('a reader that does not read its response is cut off after 10 s', async (t) => {
  const clock = new ManualClock();
  const text = 'x'.repeat(64 * 1024 * 1024);
  const { url } = await opened(t, { clock, metrics: { ...metrics, text: async () => text } });
  const socket = connect(Number(url.port), '127.0.0.1');
  const closed = once(socket, 'close');
  socket.write('GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
  await once(socket, 'readable');
  clock.advance(10_000);
  socket.on('error', () => {});
  socket.resume();
  await closed;
  t.true(socket.bytesRead < text.length);
});

test('only so many responses are made at once', async (t) => {
  let go = () => {};
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  let asked = 0;
  const text = async () => {
    asked++;
    await held;
    return 'up 1\n';
  };
  const { url } = await opened(t, { metrics: { ...metrics, text } });
  const reads = Array.from({ length: 16 }, async () => read(url));
  await eventually('all are asked for', () => asked === 16);
  t.is((await read(url)).status, 503);
  go();
  t.true((await Promise.all(reads)).every(({ status }) => status === 200));
  await eventually('there is room again', async () => (await read(url)).status === 200);
});

test('a program without the token cannot have many responses on their way, which would keep others from reading', async (t) => {
  const { url } = await opened(t, { token: TOKEN });
  const socket = connect(Number(url.port), '127.0.0.1');
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  let text = '';
  socket.on('data', (data) => (text += data.toString()));
  socket.write('GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n'.repeat(100));
  await closed;
  t.is(text.split('HTTP/1.1 401').length - 1, 1);
});

test('a failure is logged, and told without its reason', async (t) => {
  const text = async () => {
    throw new Error('secret');
  };
  const { url, logs } = await opened(t, { metrics: { ...metrics, text } });
  const { status, body } = await read(url);
  t.is(status, 500);
  t.false(body.includes('secret'));
  t.is(logs.find(/^HTTP request failed unexpectedly$/).length, 1);
});

test('a port that is in use is named, with the settings to change', async (t) => {
  const { url } = await opened(t);
  const error = await t.throwsAsync(opened(t, { port: Number(url.port) }));
  t.is(
    error?.message,
    `127.0.0.1:${url.port} is in use: set METRICS_PORT to another port, or to gateway to use the port of the HTTP gateway`,
  );
});

/** The callers of a gateway with this one token. */
const authenticatedBy = (token: string) =>
  new HttpTokens({ token, file: undefined, clock: systemClock, log: logLines().log }).authenticate;

test('the gateway has the metrics too, with their own token or with its own', async (t) => {
  const statuses = async (token: string | undefined, own: string | undefined) => {
    const { url } = await startGateway(t, undefined, {
      authenticate: token === undefined ? undefined : authenticatedBy(token),
      metrics: { source: metrics, token: own },
    });
    const at = new URL('/metrics', url);
    const all = await Promise.all(
      [undefined, TOKEN, OTHER_TOKEN].map(async (each) =>
        read(at, each === undefined ? {} : { authorization: `Bearer ${each}` }),
      ),
    );
    return all.map(({ status }) => status);
  };
  t.deepEqual(await statuses(OTHER_TOKEN, TOKEN), [401, 200, 401]);
  t.deepEqual(await statuses(undefined, TOKEN), [401, 200, 401]);
  t.deepEqual(await statuses(OTHER_TOKEN, undefined), [401, 401, 200]);
  t.deepEqual(await statuses(undefined, undefined), [200, 200, 200]);
});

test('the token for metrics opens nothing else of the gateway', async (t) => {
  const { url } = await startGateway(t, undefined, {
    authenticate: authenticatedBy(OTHER_TOKEN),
    metrics: { source: metrics, token: TOKEN },
  });
  const authorization = `Bearer ${TOKEN}`;
  t.is((await read(new URL('/v1/actions', url), { authorization })).status, 401);
  t.is((await read(new URL('/metrics/', url), { authorization })).status, 401);
  const shown = await read(new URL('/metrics', url), { authorization });
  t.deepEqual(shown, { status: 200, type: 'text/plain; version=0.0.4', body: 'up 1\n' });
});

test('the gateway has no such path when the metrics are off or elsewhere', async (t) => {
  const { url } = await startGateway(t);
  t.is((await read(new URL('/metrics', url))).status, 404);
});

test('the gateway shows the metrics while calls use up its memory', async (t) => {
  const { url, asked } = await startGateway(t, async () => new Promise(() => {}), {
    memoryBytes: 1,
    metrics: { source: metrics, token: undefined },
  });
  const call = async () =>
    fetch(`${url}/v1/actions/look`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
      signal: leaving.signal,
    });
  const leaving = new AbortController();
  const waits = call();
  await eventually('a call takes the memory', () => asked.length === 1);
  t.is((await call()).status, 503);
  t.is((await read(new URL('/metrics', url))).status, 200);
  leaving.abort();
  await t.throwsAsync(waits, { any: true });
});
