import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type ClientOptions, FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { ActionError } from '../../src/plugin.js';
import { doing, echo, held } from '../support/actions.js';
import { brokers, cuttable, rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { startProxy } from '../support/proxy.js';
import { serveRequests } from '../support/requests.js';
import { warningsDuring } from '../support/warnings.js';

function clientOf(
  t: ExecutionContext,
  broker: TestBroker,
  options: Partial<ClientOptions>,
): FleetManagerClient {
  const client = new FleetManagerClient({ urls: [broker.url], connect: broker.connect, ...options });
  t.teardown(async () => client.close());
  return client;
}

const failure = (error: unknown) => (error instanceof FleetManagerError ? error.code : String(error));

for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(over('a call gives the result of the action'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const client = clientOf(t, broker, { queue });
    t.deepEqual(await client.call('echo', { parameters: { number: 3 } }), { number: 3 });
  });

  test(
    over('an error of the action has its code, its text, its details and whose error it is'),
    async (t) => {
      const refusing = doing(async () => {
        throw new ActionError('unit_not_found', 'no unit x', { details: { unit: 'x' } });
      });
      const { queue } = await serveRequests(t, broker, [refusing]);
      const error = await t.throwsAsync(clientOf(t, broker, { queue }).call('act'), {
        instanceOf: FleetManagerError,
      });
      t.like(error, { code: 'unit_not_found', message: 'no unit x', fault: 'caller', retryable: false });
      t.deepEqual(error.details, { unit: 'x' });
    },
  );

  test(over('replies to many concurrent calls are never mixed up'), async (t) => {
    const shuffling = doing(async ({ parameters }) => {
      await sleep(Math.random() * 5);
      return { parameters };
    });
    const { queue } = await serveRequests(t, broker, [shuffling]);
    const clients = [clientOf(t, broker, { queue }), clientOf(t, broker, { queue })];
    const calls = Array.from({ length: 100 }, async (_, n) => {
      const parameters = { text: `call ${n}` };
      return [parameters, await clients[n % 2]?.call('act', { parameters })];
    });
    for (const [parameters, result] of await Promise.all(calls)) t.deepEqual(result, { parameters });
  });

  test(over('the timeout is sent with the request, so the service stops its work'), async (t) => {
    const { action, begun } = held();
    const clock = new ManualClock();
    const { queue, service } = await serveRequests(t, broker, [action], { clock });
    const call = t.throwsAsync(clientOf(t, broker, { queue }).call('act', { timeoutMs: 60_000 }));
    await eventually('it runs', () => begun() === 1);
    clock.advance(60_000);
    t.is(failure(await call), 'timeout');
    await eventually('nothing is held', () => service.held === 0);
  });

  test(
    over('an aborted call rejects with the reason, and its late reply disturbs no other call'),
    async (t) => {
      const { action, begun, finishRun } = held();
      const { queue, service } = await serveRequests(t, broker, [action, echo]);
      const client = clientOf(t, broker, { queue });
      const abort = new AbortController();
      const call = client.call('act', { signal: abort.signal });
      await eventually('it runs', () => begun() === 1);
      abort.abort(new Error('enough'));
      await t.throwsAsync(call, { message: 'enough' });
      finishRun();
      await eventually('it is answered', () => service.held === 0);
      t.deepEqual(await client.call('echo'), { number: 0 });
      await t.throwsAsync(client.call('echo', { signal: abort.signal }), { message: 'enough' });
    },
  );

  test(over('any number of calls may share one signal'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const client = clientOf(t, broker, { queue });
    const { signal } = new AbortController();
    const warnings = await warningsDuring(async () =>
      Promise.all(Array.from({ length: 20 }, () => client.call('echo', { signal }))),
    );
    t.deepEqual(warnings, []);
    t.is(getEventListeners(signal, 'abort').length, 0);
  });

  test(over('a request that cannot be encoded is refused as such'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const circle: Record<string, unknown> = {};
    circle.circle = circle;
    const error = await t.throwsAsync(clientOf(t, broker, { queue }).call('echo', { parameters: circle }));
    t.is(failure(error), 'invalid_request');
  });

  test(over('a call works on when the connection of the client is lost in progress'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue } = await serveRequests(t, broker, [action]);
    const { connect, cut } = cuttable(broker);
    const client = clientOf(t, broker, { queue, connect });
    const call = client.call('act', { timeoutMs: 120_000 });
    await eventually('it runs', () => begun() === 1);
    cut();
    finishRun();
    t.deepEqual(await call, { run: 1 });
  });

  test(over('a call works on when the connection of the service is lost in progress'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, cut } = await serveRequests(t, broker, [action]);
    const client = clientOf(t, broker, { queue });
    const call = client.call('act', { timeoutMs: 120_000 });
    await eventually('it runs', () => begun() === 1);
    cut();
    finishRun();
    t.deepEqual(await call, { run: 1 });
    t.is(begun(), 1);
  });

  test(over('a call to a service that is not running says so'), async (t) => {
    const client = clientOf(t, broker, { queue: 'no_such_queue' });
    t.is(failure(await t.throwsAsync(client.call('echo'))), 'service_unavailable');
  });

  test(over('closing a client fails pending calls'), async (t) => {
    const { action, begun } = held();
    const { queue } = await serveRequests(t, broker, [action]);
    const client = clientOf(t, broker, { queue });
    const call = client.call('act');
    await eventually('it runs', () => begun() === 1);
    await Promise.all([t.throwsAsync(call, { message: /closed/ }), client.close()]);
    t.is(failure(await t.throwsAsync(client.call('act'))), 'cancelled');
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: a reply that is sent into a dead connection arrives over the next one', async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, service } = await serveRequests(t, rabbit, [action]);
    const url = new URL(rabbit.url);
    const proxy = await startProxy(t, { port: Number(url.port) });
    url.port = String(proxy.port);
    const client = clientOf(t, rabbit, { queue, urls: [url.href] });
    const call = client.call('act', { timeoutMs: 120_000 });
    await eventually('it runs', () => begun() === 1);
    proxy.swallow();
    finishRun();
    await eventually('it is answered', () => service.held === 0);
    proxy.cut();
    t.deepEqual(await call, { run: 1 });
  });

  test('RabbitMQ: a change that was sent and got no reply has an unknown outcome; a read is late', async (t) => {
    const queue = `test_${randomUUID()}`;
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    await channel.assertQueue(queue, { exclusive: true });
    const clock = new ManualClock();
    const client = clientOf(t, rabbit, { queue, clock });
    const outcomes = [
      client.call('restart_unit', { parameters: { unit_name: 'a.service' } }),
      client.call('list_units'),
      client.call('of_a_plugin'),
      client.call('of_a_plugin', { resend: true }),
    ].map(async (call) => failure(await t.throwsAsync(call)));
    await eventually('all are sent', async () => (await channel.checkQueue(queue)).messageCount === 4);
    clock.advance(32_000);
    t.deepEqual(await Promise.all(outcomes), ['outcome_unknown', 'timeout', 'outcome_unknown', 'timeout']);
    const last = t.throwsAsync(client.call('restart_unit', { parameters: { unit_name: 'a.service' } }));
    await eventually('it is sent', async () => (await channel.checkQueue(queue)).messageCount === 5);
    await client.close();
    t.is(failure(await last), 'outcome_unknown');
  });
}

test('a client without a way to reach the service, or with a wrong timeout, priority or idempotency key, is refused', async (t) => {
  for (const options of [{}, { urls: [] }])
    t.throws(() => new FleetManagerClient(options), {
      instanceOf: TypeError,
      message: /urls, brokers or manager/,
    });
  const client = new FleetManagerClient({ brokers: async () => [] });
  t.teardown(async () => client.close());
  for (const timeoutMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])
    await t.throwsAsync(client.call('echo', { timeoutMs }), { instanceOf: RangeError });
  for (const priority of [-1, 1.5, 256, Number.NaN])
    await t.throwsAsync(client.call('echo', { priority }), { instanceOf: RangeError });
  for (const idempotencyKey of ['', 'k'.repeat(129), 'clé', 'a\nb'])
    await t.throwsAsync(client.call('echo', { idempotencyKey }), { instanceOf: RangeError });
});

test('a call fails after its timeout when no broker can be reached, and says so', async (t) => {
  const connect = () => Promise.reject(new Error('nobody is there'));
  const client = new FleetManagerClient({ urls: ['amqp://127.0.0.1:1'], connect, queue: 'q' });
  t.teardown(async () => client.close());
  const error = await t.throwsAsync(client.call('echo', { timeoutMs: 1 }));
  t.is(failure(error), 'service_unavailable');
  t.regex(error?.message ?? '', /nobody is there/);
});
