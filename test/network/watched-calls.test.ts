import test from 'ava';
import { HttpClient } from '../../src/network/http-client.js';
import { eventually } from '../support/eventually.js';
import { recordedUpstream } from '../support/recorded-upstream.js';
import { serve } from './http-server.js';

test('who watches is told of each call, its outcome, and nothing of its URL but the host', async (t) => {
  const server = await serve(t, (request, response) => {
    const status = Number(request.url?.split('/')[1]);
    if (status === 0) request.socket.destroy();
    else if (status !== 1) response.writeHead(status).end('{}');
  });
  const { watch, calls } = recordedUpstream();
  const http = new HttpClient({ watch: { kind: 'fleet', begin: watch } });
  t.teardown(async () => http.close());
  const caller = new AbortController();
  const call = async (status: number, operation?: string) =>
    http.call('PUT', new URL(`/${status}/secret-token?a=b`, server.url), {
      operation,
      signal: caller.signal,
      timeoutMs: 60_000,
    });
  for (const status of [200, 404, 429, 503]) await call(status, 'units/{name}');
  await t.throwsAsync(call(0));
  const hangs = call(1);
  await eventually('it has arrived', () => server.requests.length === 6);
  t.is(calls[5]?.outcome, 'in progress');
  caller.abort(new Error('the caller is gone'));
  await t.throwsAsync(hangs, { message: 'the caller is gone' });
  const { host } = server.url;
  t.deepEqual(
    calls,
    [
      ['PUT units/{name}', 'ok'],
      ['PUT units/{name}', 'ok'],
      ['PUT units/{name}', 'failed'],
      ['PUT units/{name}', 'failed'],
      ['PUT', 'failed'],
      ['PUT', 'stopped'],
    ].map(([operation, outcome]) => ({ kind: 'fleet', operation, host, outcome }) as (typeof calls)[0]),
  );
});

test('headers of who watches are sent', async (t) => {
  const server = await serve(t, (_request, response) => response.end());
  const { watch } = recordedUpstream({ traceparent: '00-a-b-01' });
  const http = new HttpClient({
    headers: { accept: 'text/plain' },
    watch: { kind: 'discovery', begin: watch },
  });
  t.teardown(async () => http.close());
  await http.call('GET', server.url, { signal: new AbortController().signal, timeoutMs: 60_000 });
  t.like(server.requests[0]?.headers, { traceparent: '00-a-b-01', accept: 'text/plain' });
});
