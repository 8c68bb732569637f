import { ROOT_CONTEXT } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import test from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import type { UpstreamKind } from '../../src/lib/upstream.js';
import { HttpClient } from '../../src/network/http-client.js';
import { contextOf } from '../../src/tracing/active-context.js';
import { upstreamCall } from '../../src/tracing/upstream-spans.js';
import { respondWith, serve } from '../network/http-server.js';

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const CALLER = { traceparent: `00-${TRACE_ID}-b7ad6b7169203331-01`, tracestate: 'vendor=1' };
const FLEET = { kind: 'fleet', operation: 'GET units', host: '10.0.0.1:7002' } as const;

function recorded() {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { tracer: provider.getTracer('test'), spans: () => exporter.getFinishedSpans() };
}

test('a call to another server carries the trace on, with its state, to all but discovery and machines', async (t) => {
  const { tracer, spans } = recorded();
  const server = await serve(t, respondWith(200, '{}'));
  for (const [kind, isTold] of [
    ['fleet', true],
    ['manager', true],
    ['claims', true],
    ['discovery', false],
    ['ssh', false],
  ] as [UpstreamKind, boolean][]) {
    const begin = (of: UpstreamKind, operation: string, host: string) =>
      upstreamCall(tracer, contextOf(CALLER), { kind: of, operation, host });
    const http = new HttpClient({ watch: { kind, begin } });
    t.teardown(async () => http.close());
    const { signal } = new AbortController();
    await http.call('GET', new URL('/secret-token', server.url), {
      operation: 'units',
      signal,
      timeoutMs: 60_000,
    });
    const span = spans().at(-1);
    const { traceparent, tracestate } = server.requests.at(-1)?.headers ?? {};
    t.is(span?.name, `${kind} GET units`);
    t.is(span?.attributes['server.port'], server.port);
    t.is(traceparent, isTold ? `00-${TRACE_ID}-${span?.spanContext().spanId}-01` : undefined, kind);
    t.is(tracestate, isTold ? 'vendor=1' : undefined, kind);
  }
  t.false(JSON.stringify(spans().map(({ name, attributes }) => [name, attributes])).includes('secret'));
});

test('a failure is told by its code, without its text, and what was stopped here is no failure of the server', (t) => {
  const { tracer, spans } = recorded();
  const begin = () => upstreamCall(tracer, contextOf(CALLER), FLEET);
  begin().end(new ActionError('login_refused', 'a secret'));
  begin().end(new TypeError('a secret'));
  begin().end('a secret');
  begin().end(new Error('a secret'), true);
  begin().end();
  t.deepEqual(
    spans().map(({ attributes, status }) => [attributes['error.type'], status.code, status.message]),
    [
      ['login_refused', 2, 'login_refused'],
      ['TypeError', 2, 'TypeError'],
      ['Error', 2, 'Error'],
      ['stopped', 0, undefined],
      [undefined, 0, undefined],
    ],
  );
  t.false(
    JSON.stringify(spans().map(({ name, attributes, events }) => [name, attributes, events])).includes(
      'secret',
    ),
  );
});

test('a call that belongs to no request has no span', (t) => {
  const { tracer, spans } = recorded();
  const call = upstreamCall(tracer, ROOT_CONTEXT, FLEET);
  t.is(call.headers, undefined);
  call.end(new Error('it failed'));
  t.deepEqual(spans(), []);
});

test('the address of a server is told with its port where it has one', (t) => {
  const { tracer, spans } = recorded();
  for (const host of ['10.0.0.1:7002', '[::1]:7002', 'host', '::1'])
    upstreamCall(tracer, contextOf(CALLER), { ...FLEET, host }).end();
  t.deepEqual(
    spans().map(({ attributes }) => [attributes['server.address'], attributes['server.port']]),
    [
      ['10.0.0.1', 7002],
      ['::1', 7002],
      ['host', undefined],
      ['::1', undefined],
    ],
  );
});
