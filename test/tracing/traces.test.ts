import { context, SpanKind, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import type { Sandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { loseWorker, makeQueue, RawCaller } from '../support/requests.js';
import type { Worker } from '../support/worker.js';
import type { CollectedSpan, Collector } from './collector.js';
import { openTraced, startTraced } from './traced-service.js';

// The programs of callers: what the client finds with `@opentelemetry/api`.
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
trace.setGlobalTracerProvider(new BasicTracerProvider());
const tracer = trace.getTracer('caller');

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const CALLER_SPAN = 'b7ad6b7169203331';
const TRACEPARENT = `00-${TRACE_ID}-${CALLER_SPAN}-01`;

function clientOf(t: ExecutionContext, broker: TestBroker, queue: string): FleetManagerClient {
  const client = new FleetManagerClient({ urls: [broker.url], queue });
  t.teardown(async () => client.close());
  return client;
}

/** The names of a span and of those above it, from the outermost on; the last id is that of the caller's span. */
function pathOf(span: CollectedSpan, { spans }: Collector): { names: string[]; root: string | undefined } {
  const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
  if (parent === undefined) return { names: [span.name], root: span.parentSpanId };
  const { names, root } = pathOf(parent, { spans } as Collector);
  return { names: [...names, span.name], root };
}

/** The name of a unit that runs on a machine. */
function launchedIn({ cluster }: Sandbox): string {
  return cluster.units().find(({ currentState }) => currentState === 'launched')?.name ?? '';
}

/** The URL of the gateway of a worker. */
async function urlOf({ lines }: Worker): Promise<string> {
  return eventually('the gateway', () => {
    const [url] = lines.flatMap(({ http }) => (typeof http === 'string' ? [http] : []));
    return url;
  });
}

const broker = rabbitmq();
if (broker !== undefined) {
  test('one trace leads from the span of a caller over the queue to the command on a machine, and to the reply', async (t) => {
    const { sandbox, collector, queue } = await startTraced(t, broker);
    const client = clientOf(t, broker, queue);
    const parameters = { unit_name: launchedIn(sandbox) };
    const caller = tracer.startSpan('caller', { kind: SpanKind.PRODUCER });
    const { traceId, spanId } = caller.spanContext();
    await context.with(trace.setSpan(context.active(), caller), async () =>
      client.call('unit_logs', { cluster: sandbox.token, parameters }),
    );
    const root = await collector.span(`process ${queue}`, traceId);
    t.like(root, { kind: 'consumer', parentSpanId: spanId, failed: false });
    t.like(root.attributes, {
      'messaging.system': 'rabbitmq',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': queue,
      'fleet_manager.action': 'unit_logs',
      'fleet_manager.outcome': 'completed',
    });
    t.regex(String(root.attributes['fleet_manager.cluster']), /^[0-9a-f]{10}$/);
    t.is(root.resource['service.name'], 'fleet-manager');
    const outer = `process ${queue}`;
    for (const [name, names] of [
      ['wait', [outer]],
      ['run unit_logs', [outer]],
      ['reply', [outer]],
      ['discovery GET {token}', [outer, 'run unit_logs']],
      ['fleet GET state', [outer, 'run unit_logs']],
      ['ssh log in', [outer, 'run unit_logs']],
    ] as const) {
      const span = await collector.span(name, traceId);
      t.deepEqual(pathOf(span, collector), { names: [...names, name], root: spanId });
    }
    const command = await eventually('the command', () =>
      collector.spans.find(({ name }) => name.startsWith('ssh run ')),
    );
    t.like(command, { traceId, kind: 'client', failed: false });
    t.like(command.attributes, { 'fleet_manager.upstream': 'ssh' });
    t.true(sandbox.ssh?.hosts.includes(String(command.attributes['server.address'])));
    t.is(pathOf(command, collector).root, spanId);
  });

  test('a call over HTTP continues the trace of its caller, with its state, and the gateway has a span of its own', async (t) => {
    const { sandbox, collector, queue, worker } = await startTraced(t, broker, { HTTP_PORT: '0' });
    const url = await urlOf(worker);
    const response = await fetch(`${url}/v1/actions/list_machines`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', traceparent: TRACEPARENT, tracestate: 'vendor=1' },
      body: JSON.stringify({ etcd_token: sandbox.token }),
    });
    t.is(response.status, 200);
    const gateway = await collector.span('POST /v1/actions/:name');
    t.like(gateway, { traceId: TRACE_ID, parentSpanId: CALLER_SPAN, kind: 'server', failed: false });
    t.like(gateway.attributes, { 'http.request.method': 'POST', 'http.response.status_code': 200 });
    const request = await collector.span(`process ${queue}`);
    t.like(request, { traceId: TRACE_ID, parentSpanId: gateway.spanId, traceState: 'vendor=1' });
  });

  test('a request that is delivered again has the same trace in the process of its handler', async (t) => {
    const { sandbox, collector, queue, serve } = await openTraced(t, broker);
    await makeQueue(broker, queue);
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send(
      {
        action: 'unit_logs',
        etcd_token: sandbox.token,
        action_parameters: { unit_name: launchedIn(sandbox) },
      },
      { messageId: 'm', headers: { traceparent: TRACEPARENT } },
    );
    await loseWorker(broker, queue, 1);
    const worker = await serve();
    t.is((await caller.replyFor(id)).answer.status, 'completed');
    t.true(worker.lines.some(({ message }) => message === 'handler process started'));
    const command = await eventually('the command', () =>
      collector.spans.find(({ name, traceId }) => name.startsWith('ssh run ') && traceId === TRACE_ID),
    );
    await collector.span(`process ${queue}`);
    t.deepEqual(pathOf(command, collector), {
      names: [`process ${queue}`, 'run unit_logs', command.name],
      root: CALLER_SPAN,
    });
  });

  test('requests that share a run have spans in their own traces, which are linked', async (t) => {
    const { sandbox, collector, queue } = await startTraced(t, broker);
    const caller = await RawCaller.open(t, broker, queue);
    const thaw = sandbox.cluster.fail({ kind: 'freeze' });
    const read = (n: number) =>
      caller.send(
        { action: 'list_machines', etcd_token: sandbox.token },
        { headers: { traceparent: `00-${String(n).repeat(32)}-${CALLER_SPAN}-01` } },
      );
    const first = read(1);
    // It has begun when its cluster is looked up.
    await eventually('the first one runs', () => sandbox.discovery.requests.length > 0);
    const others = [read(2), read(3)];
    await eventually('the others are taken', async () => (await caller.waiting()) === 0);
    // Behind them in the same queue: when it is answered, they wait.
    t.is((await caller.ask({ action: 'none_such' })).answer.response_body.code, 'unknown_action');
    void thaw();
    for (const id of [first, ...others]) t.is((await caller.replyFor(id)).answer.status, 'completed');
    const [alone, leader, other] = await Promise.all(
      [1, 2, 3].map(async (n) => collector.span('run list_machines', String(n).repeat(32))),
    );
    t.deepEqual(alone?.links, []);
    t.deepEqual(leader?.links, [other?.spanId]);
    t.deepEqual(other?.links, [leader?.spanId]);
  });

  test('a caller whose trace is not recorded gets none here, and its id is in the log all the same', async (t) => {
    const { sandbox, collector, queue, worker } = await startTraced(t, broker);
    const caller = await RawCaller.open(t, broker, queue);
    const ask = async (traceparent: string) =>
      caller.ask({ action: 'list_machines', etcd_token: sandbox.token }, { headers: { traceparent } });
    await ask(`00-${TRACE_ID}-${CALLER_SPAN}-00`);
    await ask(`00-${'1'.repeat(32)}-${CALLER_SPAN}-01`);
    await collector.span(`process ${queue}`, '1'.repeat(32));
    t.deepEqual(
      collector.spans.filter(({ traceId }) => traceId === TRACE_ID),
      [],
    );
    t.true(
      worker.lines.some(({ message, trace_id }) => message === 'request completed' && trace_id === TRACE_ID),
    );
  });

  test('what is no valid trace is ignored: the request is answered, in a trace of its own', async (t) => {
    const { sandbox, collector, queue } = await startTraced(t, broker);
    const caller = await RawCaller.open(t, broker, queue);
    const hostile: unknown[] = [
      '',
      'a',
      7,
      null,
      true,
      [TRACEPARENT],
      { traceparent: TRACEPARENT },
      Buffer.from(TRACEPARENT),
      `00-${'0'.repeat(32)}-${CALLER_SPAN}-01`,
      `00-${TRACE_ID}-${'0'.repeat(16)}-01`,
      `ff-${TRACE_ID}-${CALLER_SPAN}-01`,
      `${TRACEPARENT}\r\nx-caller: root`,
      TRACEPARENT.toUpperCase(),
      TRACEPARENT.repeat(200),
    ];
    const answers = hostile.map((traceparent) =>
      caller.send(
        { action: 'list_machines', etcd_token: sandbox.token },
        { headers: { traceparent, tracestate: traceparent } },
      ),
    );
    for (const id of answers) t.is((await caller.replyFor(id)).answer.status, 'completed');
    const states = ['', 'a', '\r\nx: y', 'k=\u0000', 'k=\u00e9', `k=${'v'.repeat(9_000)}`, 7, ','];
    const valid = states.map((tracestate) =>
      caller.send(
        { action: 'list_machines', etcd_token: sandbox.token },
        { headers: { traceparent: TRACEPARENT, tracestate } },
      ),
    );
    for (const id of valid) t.is((await caller.replyFor(id)).answer.status, 'completed');
    const name = `process ${queue}`;
    await eventually('all spans', () => {
      const found = collector.spans.filter((each) => each.name === name);
      return found.length === hostile.length + states.length;
    });
    const own = collector.spans.filter((each) => each.name === name && each.parentSpanId === undefined);
    t.is(own.length, hostile.length);
    t.true(own.every(({ traceId }) => traceId !== TRACE_ID));
  });

  test('an error names its trace to its caller and in the log, and is no failure of the service when the caller is wrong', async (t) => {
    const { sandbox, collector, queue, worker } = await startTraced(t, broker);
    const client = clientOf(t, broker, queue);
    const parameters = { unit_name: 'secret-parameter.service' };
    const error = await t.throwsAsync<FleetManagerError>(
      client.call('unit_logs', { cluster: sandbox.token, parameters }),
      { instanceOf: FleetManagerError },
    );
    const request = await collector.span(`process ${queue}`);
    t.like(error, { code: 'unit_not_found', traceId: request.traceId });
    t.like(request, { parentSpanId: undefined, failed: false });
    t.like(request.attributes, {
      'error.type': 'unit_not_found',
      'fleet_manager.outcome': 'unit_not_found',
    });
    t.true(
      worker.lines.some(
        ({ message, trace_id }) => message === 'request failed' && trace_id === request.traceId,
      ),
    );
    sandbox.cluster.fail({ kind: 'refuse' });
    await t.throwsAsync(client.call('list_units', { cluster: sandbox.token }), {
      code: 'cluster_unreachable',
    });
    const run = await collector.span('run list_units');
    t.like(run, { failed: true, message: 'cluster_unreachable' });
    const upstream = await eventually('the failed call', () =>
      collector.spans.find(({ name, traceId }) => name.startsWith('fleet GET') && traceId === run.traceId),
    );
    t.true(upstream.failed);
    const sent = JSON.stringify(collector.spans);
    t.false(sent.includes('secret-parameter'));
    t.false(sent.includes(sandbox.token));
  });

  test('without traces an error and the log name the trace of the caller, and nobody else', async (t) => {
    const { queue, serve } = await openTraced(t, broker);
    const worker = await serve({ OTEL_SDK_DISABLED: 'true' });
    const caller = await RawCaller.open(t, broker, queue);
    const request = { action: 'none_such' };
    const traced = await caller.ask(request, { headers: { traceparent: TRACEPARENT } });
    t.is(traced.answer.response_body.trace_id, TRACE_ID);
    const untraced = await caller.ask(request);
    t.deepEqual(Object.keys(untraced.answer.response_body).toSorted(), ['code', 'details', 'errors']);
    const lines = await eventually('both lines', () => {
      const failed = worker.lines.filter(({ message }) => message === 'request failed');
      return failed.length === 2 ? failed : undefined;
    });
    t.deepEqual(
      lines.map(({ trace_id }) => trace_id),
      [TRACE_ID, undefined],
    );
  });
}
