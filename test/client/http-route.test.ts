import { getEventListeners } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { type AnswerEnvelope, type CallOptions, FleetManagerError } from '../../src/client/client.js';
import { HttpRoute } from '../../src/client/http-route.js';
import type { ActionDescription } from '../../src/core/action-description.js';
import { HttpServer } from '../../src/gateway/http-server.js';
import { systemClock } from '../../src/lib/clock.js';
import { DESCRIPTION } from '../support/action-description.js';
import { eventually } from '../support/eventually.js';
import { respondWith, serve } from '../network/http-server.js';
import { httpTokens } from '../access/http-tokens-of.js';
import { logLines } from '../support/log-lines.js';

/** Longer than any test takes. */
const UNHURRIED_MS = 600_000;
const TOKEN = '0123456789abcdef';

/** A route to a gateway whose own client replies as the test says. */
async function open(
  t: ExecutionContext,
  answer: (action: string, options: CallOptions) => Promise<AnswerEnvelope>,
  { token = TOKEN, actions = [] }: { token?: string; actions?: ActionDescription[] } = {},
): Promise<HttpRoute> {
  const server = new HttpServer({
    host: '127.0.0.1',
    port: 0,
    authenticate: httpTokens({ token: TOKEN }).authenticate,
    client: { request: answer },
    describe: () => actions,
    notReady: () => [],
    maxBodyBytes: 4_096,
    memoryBytes: 2 ** 30,
    clock: systemClock,
    log: logLines().log,
  });
  const { port } = new URL(await server.start());
  t.teardown(async () => server.stop());
  const route = new HttpRoute({ host: '127.0.0.1', port: Number(port), token });
  t.teardown(async () => route.close());
  return route;
}

/** A reply that never comes, and how many callers wait for it. */
function never(): { answer: () => Promise<AnswerEnvelope>; waiting: () => number } {
  let waiting = 0;
  return { answer: async () => new Promise(() => waiting++), waiting: () => waiting };
}

const codeOf = (error: unknown) => (error instanceof FleetManagerError ? error.code : String(error));

test('a request arrives with its cluster, parameters and timeout, and its whole reply comes back', async (t) => {
  const asked: unknown[] = [];
  const large = 2n ** 64n;
  const route = await open(t, async (action, { cluster, parameters, timeoutMs }) => {
    asked.push([action, cluster, parameters, timeoutMs]);
    return { status: 'error', response_body: { errors: ['no'], large } };
  });
  const answer = await route.request('look', { cluster: 'abc', parameters: { n: 1 }, timeoutMs: 700 });
  t.like(answer, { status: 'error', response_body: { errors: ['no'], large } });
  t.deepEqual(asked, [['look', 'abc', { n: 1 }, 700]]);
  await route.request('look again', {});
  t.deepEqual(asked[1], ['look again', undefined, undefined, 30_000]);
});

test('a request carries a trace that is valid over the gateway to its own request', async (t) => {
  const traces: unknown[] = [];
  const route = await open(t, async (_action, { trace }) => {
    traces.push(trace);
    return { status: 'completed', response_body: null };
  });
  const trace = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'a=1' };
  await route.request('look', { trace });
  await route.request('look', { trace: { traceparent: 'none', tracestate: 'a=1' } });
  await route.request('look', {});
  t.deepEqual(traces, [trace, {}, {}]);
});

test('a request carries its idempotency key, and tells when its reply is that of an earlier one', async (t) => {
  const keys: unknown[] = [];
  const route = await open(t, async (_action, { idempotencyKey }) => {
    keys.push(idempotencyKey);
    const isReplayed = keys.length > 1;
    return { status: 'completed', response_body: null, ...(isReplayed && { replayed: true }) };
  });
  const done = { status: 'completed', response_body: null } as const;
  const key = 'a "key", with \\';
  t.deepEqual(await route.request('act', { idempotencyKey: key }), done);
  t.deepEqual(await route.request('act', { idempotencyKey: key }), { ...done, replayed: true });
  await route.request('act', {});
  t.deepEqual(keys, [key, key, undefined]);
});

test('the actions of the service are listed as it describes them', async (t) => {
  const actions = [DESCRIPTION];
  const { answer } = never();
  t.deepEqual(await (await open(t, answer, { actions })).catalogue(), { actions, sandboxCluster: undefined });
});

test('a gateway that does not list its actions is told with its code and its reasons', async (t) => {
  for (const [body, code, reason] of [
    [{ response_body: { code: 'forbidden', errors: ['no', 'never'] } }, 'forbidden', 'no; never'],
    [{ response_body: { errors: ['no'] } }, 'internal', 'no'],
    [{}, 'internal', 'its response has no reason'],
  ] as const) {
    const { port, requests } = await serve(t, respondWith(403, JSON.stringify(body)));
    const error = await t.throwsAsync(new HttpRoute({ host: '127.0.0.1', port, token: TOKEN }).catalogue());
    t.is(codeOf(error), code);
    t.is(
      error?.message,
      `the gateway does not list its actions (${reason}): is it a fleet-manager, and is HTTP_TOKEN one of the gateway's tokens?`,
    );
    t.like(requests[0], { url: '/v1/actions', method: 'GET' });
    t.is(requests[0]?.headers.authorization, `Bearer ${TOKEN}`);
  }
});

test('without a token a request has none', async (t) => {
  const { port, requests } = await serve(t, respondWith(200, '{"status":"completed","response_body":1}'));
  const signal = new AbortController().signal;
  const route = new HttpRoute({ host: '127.0.0.1', port, token: undefined });
  t.like(await route.request('look', { signal }), { response_body: 1 });
  t.is(requests[0]?.headers.authorization, undefined);
  t.is(requests[0]?.headers['content-type'], 'application/json');
  // The signal may live as long as its program.
  t.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('an aborted request rejects with the reason, and the gateway stops it', async (t) => {
  const signals: (AbortSignal | undefined)[] = [];
  const route = await open(t, async (_, { signal }) => new Promise(() => signals.push(signal)));
  const abort = new AbortController();
  // Its own time limit ends it much later.
  const request = route.request('look', { signal: abort.signal, timeoutMs: UNHURRIED_MS });
  await eventually('it waits', () => signals.length === 1);
  abort.abort(new Error('enough'));
  await t.throwsAsync(request, { message: 'enough' });
  await eventually('the gateway knows', () => signals[0]?.aborted === true);
  await t.throwsAsync(route.request('look', { signal: abort.signal }), { message: 'enough' });
  t.is(signals.length, 1);
});

test('a reply may come after the timeout of its request', async (t) => {
  const answer = respondWith(200, '{"status":"completed","response_body":1}');
  const { port } = await serve(t, (...call) => setTimeout(() => answer(...call), 20));
  const route = new HttpRoute({ host: '127.0.0.1', port, token: undefined });
  t.like(await route.request('look', { timeoutMs: 1 }), { response_body: 1 });
});

test('closing the route fails pending calls: a change as unknown, a read as cancelled', async (t) => {
  const { answer, waiting } = never();
  const route = await open(t, answer);
  const requests = [true, false].map(async (resend) =>
    codeOf(await t.throwsAsync(route.request('look', { resend }))),
  );
  await eventually('both wait', () => waiting() === 2);
  await route.close();
  t.deepEqual(await Promise.all(requests), ['cancelled', 'outcome_unknown']);
  t.is(codeOf(await t.throwsAsync(route.request('look', {}))), 'cancelled');
});

test('a change whose gateway is lost, or answers nonsense, has an unknown outcome, and a read can be sent again', async (t) => {
  for (const answer of [respondWith(502, '<html>'), respondWith(200, '{"status": "comp')]) {
    const { port } = await serve(t, answer);
    const route = new HttpRoute({ host: '127.0.0.1', port, token: undefined });
    const codes = [false, true].map(async (resend) =>
      codeOf(await t.throwsAsync(route.request('look', { resend }))),
    );
    t.deepEqual(await Promise.all(codes), ['outcome_unknown', 'service_unavailable']);
  }
  const server = await serve(t, () => {});
  const route = new HttpRoute({ host: '127.0.0.1', port: server.port, token: undefined });
  const lost = [false, true].map(async (resend) =>
    codeOf(await t.throwsAsync(route.request('look', { resend }))),
  );
  await eventually('both wait', () => server.requests.length === 2);
  await server.stop();
  t.deepEqual(await Promise.all(lost), ['outcome_unknown', 'service_unavailable']);
});

test('a gateway that cannot list its actions is asked only once', async (t) => {
  const { port, requests } = await serve(t, (_, response) => response.destroy());
  const route = new HttpRoute({ host: '127.0.0.1', port, token: undefined });
  t.is(codeOf(await t.throwsAsync(route.catalogue())), 'service_unavailable');
  t.is(requests.length, 1);
});

test('an unencodable request, a wrong token and an unreachable gateway each have their own code', async (t) => {
  const circle: Record<string, unknown> = {};
  circle.circle = circle;
  const done = async (): Promise<AnswerEnvelope> => ({ status: 'completed', response_body: null });
  const encoding = (await open(t, done)).request('look', { parameters: circle });
  t.is(codeOf(await t.throwsAsync(encoding)), 'invalid_request');
  t.is(codeOf(await t.throwsAsync((await open(t, done, { token: 'another' })).catalogue())), 'forbidden');
  const gone = await serve(t, respondWith(200));
  await gone.stop();
  const stopped = new HttpRoute({ host: '127.0.0.1', port: gone.port, token: undefined });
  t.is(codeOf(await t.throwsAsync(stopped.request('look', { resend: false }))), 'service_unavailable');
  const nowhere = new HttpRoute({ host: '::1', port: 1, token: undefined });
  const error = await t.throwsAsync(nowhere.catalogue());
  t.is(codeOf(error), 'service_unavailable');
  t.regex(error?.message ?? '', /^no gateway responds at http:\/\/\[::1\]:1: /);
});
