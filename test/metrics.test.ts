import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startService } from '../src/composition.js';
import { ErlangCodec } from '../src/rpc/codec/erlang.js';
import { queuesOf } from '../src/rpc/queues.js';
import { clusterSettings } from '../src/sandbox/sandbox-settings.js';
import { startSandbox } from '../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { loseWorker, makeQueue, RawCaller } from './support/requests.js';
import { type Scrape, scrape } from './support/scrape.js';
import { folder, REACHES_NOTHING, serving } from './support/settings.js';
import { writePlugin } from './support/write-plugin.js';

// The metrics of the whole service on RabbitMQ, as Prometheus reads them.
const TOKEN = 'the-token-for-metrics';
const ERLANG = 'application/x-erlang-binary';

/** An action that does what its parameter says. */
const ACTS = `
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ActionError, defineAction } from 'fleet-manager/plugin';
import { object, string } from 'yup';
export default defineAction({
  name: 'acts', summary: 'Does what it is told.', target: 'none', effect: 'read', coalesce: true,
  parameters: object({ how: string().default('').meta({ description: 'How.' }), n: string().meta({ description: 'Any.' }) }),
  result: string().defined().meta({ description: 'Nothing.' }),
  handle: async ({ parameters: { how } }) => {
    if (how.startsWith('fail ')) throw new ActionError(how.slice(5), 'as told');
    if (how === 'throw') throw new Error('secret');
    if (how === 'block') { const end = performance.now() + 300; while (performance.now() < end); }
    if (how.startsWith('until ')) while (!existsSync(how.slice(6))) await sleep(10);
    return 'done';
  },
});`;

async function opened(t: ExecutionContext, broker: TestBroker, env: Record<string, string> = {}) {
  const { QUEUE_NAME: queue = `metrics_${randomUUID()}` } = env;
  const sandbox = await startSandbox();
  const service = await startService({
    configuration: serving({
      AMQP_URL: broker.url,
      QUEUE_NAME: queue,
      PLUGIN_PATHS: await writePlugin(t, 'acts', ACTS),
      ...REACHES_NOTHING,
      METRICS_PORT: '0',
      METRICS_TOKEN: TOKEN,
      SHUTDOWN_GRACE_SECONDS: '0',
      ...env,
    }),
    clusters: clusterSettings(sandbox),
    log: logLines().log,
  });
  t.teardown(async () => {
    await service.stop();
    await sandbox.stop();
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name).catch(() => {});
    await connection.close();
  });
  await eventually('it is ready', () => service.notReady().length === 0);
  const caller = await RawCaller.open(t, broker, queue);
  const ask = async (how: string, more: object = {}) =>
    caller.ask({ action: 'acts', action_parameters: { how, ...more } });
  const look = async () => scrape(service.metricsUrl, TOKEN);
  const when = async (what: string, is: (shown: Scrape) => boolean) =>
    eventually(what, async () => {
      const shown = await look();
      return is(shown) ? shown : undefined;
    });
  return { queue, sandbox, service, caller, ask, look, when };
}

const REQUESTS = 'fleet_manager_requests_total';
const broker = rabbitmq();

if (broker !== undefined) {
  test('the numbers are exactly those of what callers sent and got', async (t) => {
    const { queue, caller, ask, when } = await opened(t, broker);
    for (let n = 0; n < 3; n++) await ask('');
    await ask('fail unit_not_found');
    await ask('throw');
    await ask('', { unknown_key: 1 });
    await caller.ask({ action: 'nobody-serves-this' });
    await caller.ask({ action: 7 });
    const erlang = new ErlangCodec();
    const asErlang = erlang.encode({ status: 'not_started', request_body: { action: 'acts' } });
    const correlationId = caller.sendRaw(asErlang, { contentType: ERLANG });
    await eventually('its reply', () => caller.repliesFor(correlationId).length === 1);
    // As the gateway publishes it, in the name of the service's own user.
    await caller.ask({ action: 'acts' }, { userId: 'guest', headers: { 'x-caller': '', 'x-door': 'http' } });
    const ofRecord = caller.sendRaw(JSON.stringify({ id: 13, request_body: { action: 'acts' } }));
    await caller.replyFor(ofRecord);
    // Nobody gets the reply to this one.
    const request = JSON.stringify({ request_body: { action: 'acts' } });
    caller.publish(request, { replyTo: `gone_${randomUUID()}`, correlationId: 'x' });
    caller.publish('not a request');
    const shown = await when(
      'all are counted',
      (each) => each.sum(REQUESTS) === 12 && each.sum('fleet_manager_dead_letters_total') === 1,
    );

    const acts = { action: 'acts' };
    const counted = shown.of(REQUESTS).map(({ labels, value }) => [Object.values(labels).join(' '), value]);
    t.deepEqual(Object.fromEntries(counted), {
      // One of them has an id, but there is no Manager whose record it could name.
      'acts completed none json amqp': 5,
      'acts completed none erlang amqp': 1,
      'acts completed none json http': 1,
      'acts unit_not_found caller json amqp': 1,
      'acts internal service json amqp': 1,
      'acts invalid_parameters caller json amqp': 1,
      'unknown unknown_action caller json amqp': 1,
      'unknown invalid_request caller json amqp': 1,
    });
    t.is(shown.sum('fleet_manager_replies_dropped_total', acts), 1);
    t.is(shown.sum('fleet_manager_replies_dropped_total'), 1);
    t.is(shown.sum('fleet_manager_dead_letters_total', { kind: 'invalid' }), 1);
    const delivered = { messaging_destination_name: queue, messaging_operation_name: 'deliver' };
    t.is(shown.sum('messaging_client_consumed_messages_total', delivered), 13);
    t.is(shown.sum('fleet_manager_redeliveries_total'), 0);
    for (const [part, times] of [
      ['wait', 9],
      ['run', 9],
      ['reply', 10],
    ] as const) {
      const name = `fleet_manager_request_${part}_seconds`;
      t.is(shown.sum(`${name}_count`, acts), times, part);
      t.is(shown.sum(`${name}_bucket`, { ...acts, le: '+Inf' }), times, part);
    }
    t.is(shown.sum('fleet_manager_request_attempts_sum'), 12);
    t.is(shown.sum('messaging_process_duration_seconds_count', { error_type: '' }), 7);
    t.is(shown.sum('messaging_process_duration_seconds_count'), 12);
    t.is(shown.sum('fleet_manager_requests_in_flight') + shown.sum('fleet_manager_requests_waiting'), 0);
    for (const flag of ['ready', 'broker_connected', 'broker_preferred'])
      t.is(shown.sum(`fleet_manager_${flag}`), 1, flag);
    t.is(shown.sum('fleet_manager_broker_blocked'), 0);
    t.is(shown.sum('fleet_manager_broker_connections_total'), 1);
    t.false(/secret|not a request|nobody-serves-this/.test(shown.text));
  });

  test('requests that run and wait, reads that share a run, and deliveries after a lost worker are shown', async (t) => {
    const queue = `metrics_${randomUUID()}`;
    await makeQueue(broker, queue);
    const early = await RawCaller.open(t, broker, queue);
    const again = early.send({ action: 'acts' });
    await loseWorker(broker, queue, 1);
    const { caller, when, look } = await opened(t, broker, { QUEUE_NAME: queue, CONCURRENCY: '1' });
    await early.replyFor(again);
    const shown = await when('it is counted', (each) => each.sum(REQUESTS) === 1);
    t.is(shown.sum('fleet_manager_redeliveries_total', { role: 'requests' }), 1);
    t.is(
      shown.sum('messaging_client_consumed_messages_total'),
      2,
      'from the queue, and from that of suspects',
    );
    t.true(shown.sum('fleet_manager_request_attempts_sum') >= 1);

    const go = `${await folder(t)}/go`;
    const send = (n: string) => caller.send({ action: 'acts', action_parameters: { how: `until ${go}`, n } });
    const ids = [send('1'), send('2'), send('2'), send('2')];
    const during = await when(
      'one runs, and three wait',
      (each) =>
        each.sum('fleet_manager_requests_in_flight', { action: 'acts' }) === 1 &&
        each.sum('fleet_manager_requests_waiting', { action: 'acts' }) === 3,
    );
    t.is(during.sum('fleet_manager_messages_held'), 4);
    await writeFile(go, '');
    for (const id of ids) await caller.replyFor(id);
    await when('they are counted', (each) => each.sum(REQUESTS) === 5);
    t.is((await look()).sum('fleet_manager_requests_coalesced_total', { action: 'acts' }), 2);
  });

  test('hostile callers cannot add labels, also while Prometheus scrapes', async (t) => {
    const { caller, look, when } = await opened(t, broker);
    const before = (await look()).samples.length;
    const sent = Array.from({ length: 300 }, (_, n) =>
      caller.send(
        n % 3 === 0
          ? { action: `action_${n}"} 1\n` }
          : { action: 'acts', action_parameters: { how: `fail code_${n}` } },
      ),
    );
    const scrapes = Promise.all(Array.from({ length: 20 }, async () => look()));
    for (const id of sent) await caller.replyFor(id);
    for (const { types } of await scrapes) t.true(types.has(REQUESTS));
    const shown = await when('all are counted', (each) => each.sum(REQUESTS) === 300);
    t.is(shown.sum(REQUESTS, { action: 'unknown' }), 100);
    t.is(shown.of(REQUESTS).length, 52);
    t.is(shown.sum(REQUESTS, { code: 'other' }), 150);
    // 51 codes also have a histogram each.
    t.true(shown.samples.length < before + 52 * 18 + 200);
    t.false(shown.text.includes('action_'));
  });

  test('a blocked event loop is shown as its delay', async (t) => {
    const { ask, look } = await opened(t, broker);
    // Forgets what came before.
    await look();
    await ask('block');
    // The monitor of Node looks every 10 ms.
    await sleep(50);
    t.true((await look()).sum('nodejs_eventloop_lag_max_seconds') >= 0.2);
  });

  test('calls to discovery and to the clusters are counted by kind and operation', async (t) => {
    const { sandbox, caller, look } = await opened(t, broker);
    await caller.ask({ action: 'list_machines', etcd_token: sandbox.token });
    await caller.ask({ action: 'list_machines', etcd_token: 'no-such-cluster' });
    const shown = await look();
    const calls = 'fleet_manager_upstream_calls_total';
    t.is(shown.sum(calls, { kind: 'discovery', operation: 'GET {token}', outcome: 'ok' }), 2);
    t.true(shown.sum(calls, { kind: 'fleet', operation: 'GET machines', outcome: 'ok' }) >= 1);
    t.is(shown.sum(calls, { outcome: 'failed' }), 0);
    t.is(shown.sum('fleet_manager_upstream_call_seconds_count'), shown.sum(calls));
    t.is(shown.sum('fleet_manager_upstream_calls_in_flight'), 0);
    t.false(shown.text.includes(sandbox.token) || shown.text.includes('127.0.0.1'));
  });

  test('the metrics are told to nobody without their token, and by the gateway where they are on its port', async (t) => {
    const { service, look } = await opened(t, broker);
    t.is((await fetch(String(service.metricsUrl))).status, 401);
    t.is((await look()).sum('fleet_manager_build_info'), 1);
    t.is((await fetch(`${service.httpUrl}/metrics`)).status, 404);
    const gateway = await opened(t, broker, { METRICS_PORT: 'gateway' });
    t.is(gateway.service.metricsUrl, `${gateway.service.httpUrl}/metrics`);
    t.is((await fetch(String(gateway.service.metricsUrl))).status, 401);
    t.is((await gateway.look()).sum('fleet_manager_build_info'), 1);
    const off = await opened(t, broker, { METRICS_PORT: 'off' });
    t.is(off.service.metricsUrl, undefined);
    t.is((await fetch(`${off.service.httpUrl}/metrics`)).status, 404);
  });
}
