import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { startFrozenServer } from '../support/frozen-server.js';
import { RawCaller } from '../support/requests.js';
import { folder } from '../support/settings.js';
import type { Worker } from '../support/worker.js';
import { openTraced, startTraced, type TracedWorld } from './traced-service.js';

const SECRET = 'a-secret-of-the-collector';
/** Ten minutes: spans leave only when the service stops. */
const AT_THE_END = { OTEL_BSP_SCHEDULE_DELAY: '600000' };

function messages({ lines }: Worker, message: string): Record<string, unknown>[] {
  return lines.filter((line) => line.message === message);
}

/** Prints the packages that the process has loaded when it ends. */
async function printsPackages(t: ExecutionContext): Promise<Record<string, string>> {
  const file = join(await folder(t), 'preload.cjs');
  await writeFile(
    file,
    `process.on('exit', () => {
       const names = Object.keys(require.cache).map((path) => /.*node_modules.((?:@[^/]+.)?[^/]+)/.exec(path)?.[1]);
       require('fs').writeSync(2, JSON.stringify({ message: 'packages', names: [...new Set(names)] }) + '\\n');
     });`,
  );
  return { NODE_OPTIONS: `--require ${file}` };
}

/** One request, and its answer. */
async function ask(t: ExecutionContext, { sandbox, queue }: TracedWorld, times = 1): Promise<void> {
  const broker = rabbitmq();
  if (broker === undefined) throw new Error('there is no broker');
  const caller = await RawCaller.open(t, broker, queue);
  for (let n = 0; n < times; n++)
    t.is(
      (await caller.ask({ action: 'list_machines', etcd_token: sandbox.token })).answer.status,
      'completed',
    );
}

async function stopped(worker: Worker): Promise<number | string> {
  worker.process.kill('SIGTERM');
  return worker.ended;
}

const broker = rabbitmq();
if (broker !== undefined) {
  test('OpenTelemetry is loaded exactly when it is asked for', async (t) => {
    const world = await openTraced(t, broker);
    const preload = await printsPackages(t);
    const loaded = async (settings: Record<string, string>): Promise<string[]> => {
      const worker = await world.serve({ ...preload, ...settings });
      await ask(t, world);
      t.is(await stopped(worker), 0);
      const [{ names } = {}] = messages(worker, 'packages');
      t.true(Array.isArray(names) && names.includes('amqplib'));
      return JSON.stringify(names).match(/@opentelemetry.[\w-]+/g) ?? [];
    };
    const turnedOff: Record<string, string>[] = [
      { OTEL_SDK_DISABLED: 'true' },
      { OTEL_TRACES_EXPORTER: 'none' },
      { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    ];
    for (const off of turnedOff) t.deepEqual(await loaded(off), [], JSON.stringify(off));
    t.true((await loaded({})).includes('@opentelemetry/sdk-trace-base'));
  });

  test('what is recorded is sent before the service ends', async (t) => {
    const world = await startTraced(t, broker, AT_THE_END);
    await ask(t, world);
    t.deepEqual(world.collector.requests, []);
    t.is(await stopped(world.worker), 0);
    t.true(world.collector.spans.some(({ name }) => name === `process ${world.queue}`));
    t.like(world.worker.lines.at(-1), { message: 'shut down', clean: true });
  });

  test('a collector that does not respond keeps neither requests nor the end of the service waiting', async (t) => {
    const port = await startFrozenServer(t);
    const world = await startTraced(t, broker, {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      SHUTDOWN_GRACE_SECONDS: '1',
    });
    await ask(t, world, 3);
    t.is(await stopped(world.worker), 0);
    t.like(world.worker.lines.at(-1), { message: 'shut down', clean: true });
  });

  test('a collector that refuses spans is logged once, and so is its return; no line has what its headers hold', async (t) => {
    const world = await openTraced(t, broker);
    world.collector.respondWith(400);
    const worker = await world.serve({
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${SECRET},x-key=${SECRET}`,
    });
    const failures = async (count: number) =>
      eventually('spans were refused', () => world.collector.requests.length >= count);
    await ask(t, world);
    await failures(1);
    await ask(t, world);
    await failures(2);
    await eventually('it is logged', () => messages(worker, 'trace collector lost').length > 0);
    world.collector.respondWith(200);
    await ask(t, world);
    const [restored] = await eventually('it is logged', () => {
      const lines = messages(worker, 'trace collector restored');
      return lines.length > 0 ? lines : undefined;
    });
    t.true(Number(restored?.failures) >= 2);
    t.is(messages(worker, 'trace collector lost').length, 1);
    t.is(world.collector.requests.at(-1)?.headers.authorization, `Bearer ${SECRET}`);
    t.is(await stopped(worker), 0);
    t.false(JSON.stringify(worker.lines).includes(SECRET));
  });

  test('spans are sent as protobuf by default, to the path for traces', async (t) => {
    const world = await startTraced(t, broker, { ...AT_THE_END, OTEL_EXPORTER_OTLP_PROTOCOL: '' });
    await ask(t, world);
    t.is(await stopped(world.worker), 0);
    const [request] = world.collector.requests;
    t.is(request?.path, '/v1/traces');
    t.is(request?.headers['content-type'], 'application/x-protobuf');
    t.true(request?.body.includes(`process ${world.queue}`));
  });

  for (const [what, settings, reason] of [
    [
      'an exporter',
      { OTEL_TRACES_EXPORTER: 'zipkin' },
      /^OTEL_TRACES_EXPORTER must be otlp or none, not 'zipkin'/,
    ],
    [
      'a protocol',
      { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
      /^OTEL_EXPORTER_OTLP_PROTOCOL must be http\/protobuf or http\/json, not 'grpc'/,
    ],
  ] as const)
    test(`with ${what} that it does not know the service says so, and works without traces`, async (t) => {
      const world = await startTraced(t, broker, settings);
      const [line] = messages(world.worker, 'traces not sent');
      t.regex(String(line?.reason), reason);
      await ask(t, world);
    });

  test('other settings of OpenTelemetry that it cannot use are logged without their secrets', async (t) => {
    const { worker } = await startTraced(t, broker, {
      OTEL_TRACES_SAMPLER: 'sometimes',
      OTEL_EXPORTER_OTLP_ENDPOINT: `:${SECRET}@collector`,
    });
    const reasons = JSON.stringify(messages(worker, 'OpenTelemetry settings'));
    t.regex(reasons, /OTEL_TRACES_SAMPLER value .*sometimes.* invalid/);
    t.regex(reasons, /export URL/);
    t.false(JSON.stringify(worker.lines).includes(SECRET));
  });
}
