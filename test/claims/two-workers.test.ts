import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { hasEtcd } from '../support/own-etcd.js';
import { keysIn } from './open-store.js';
import { marking, twoWorkers } from './open-workers.js';
import { RawCaller } from '../support/requests.js';
import { folder } from '../support/settings.js';
import { startWorker } from '../support/worker.js';
import { writePlugin } from '../support/write-plugin.js';

// The service as it is run: two processes on a real RabbitMQ and a real etcd.
const rabbit = hasEtcd ? rabbitmq() : undefined;

const options = () => ({
  messageId: randomUUID(),
  persistent: true,
  headers: { 'timeout-ms': HUNG_MS },
});

async function replyTo(caller: RawCaller, id: string): Promise<unknown> {
  return (await caller.replyFor(id)).answer.response_body;
}

const READ = `
  import { defineAction } from 'fleet-manager/plugin';
  import { object, string } from 'yup';
  export default defineAction({
    name: 'look', summary: 'Reads nothing.', target: 'none', effect: 'read',
    parameters: object({}),
    result: string().defined().meta({ description: 'A word.' }),
    handle: async () => 'seen',
  });`;

if (rabbit !== undefined) {
  test('a restart whose worker loses its connection happens once, and both workers tell the same of it', async (t) => {
    const { queue, a, b, proxyOfA, proxyOfB } = await twoWorkers(t, rabbit);
    const sandbox = await startSandbox();
    t.teardown(async () => sandbox.stop());
    const directory = await folder(t, {
      'clusters.json': JSON.stringify({ test: [`http://127.0.0.1:${sandbox.fleetPort}`] }),
    });
    const clusters = { CLUSTERS_FILE: join(directory, 'clusters.json'), ALLOWED_HOSTS: '127.0.0.0/8' };
    const unit = sandbox.cluster.units()[0]?.name ?? '';
    const before = sandbox.cluster.history(unit).length;
    await startWorker(t, { ...a, ...clusters });
    const second = await startWorker(t, { ...b, ...clusters });
    // The first one gets the request.
    proxyOfB.refuse();
    const linesOfB = (text: string) => second.lines.filter(({ message }) => message === text).length;
    await eventually('it is noticed', () => linesOfB('broker connection lost') === 1);
    const caller = await RawCaller.open(t, rabbit, queue);
    const parameters = { unit_name: unit, wait_seconds: 240 };
    const id = caller.send(
      { action: 'restart_unit', etcd_token: 'test', action_parameters: parameters },
      options(),
    );
    const orders = () => sandbox.cluster.requests.filter(({ method }) => method === 'PUT').length;
    await eventually('the unit is told to stop', () => orders() > 0);
    proxyOfB.accept();
    await eventually('it takes requests again', () => linesOfB('accepting requests') === 2);
    proxyOfA.refuse();
    const { answer } = await caller.replyFor(id);
    t.is(answer.status, 'completed', JSON.stringify(answer));
    t.regex(JSON.stringify(answer.response_body), /was restarted/);
    await eventually('it was not run again', () => linesOfB('recorded outcome reused') === 1);
    proxyOfA.accept();
    await eventually('the first worker answers too', () => caller.repliesFor(id).length === 2);
    const [one, other] = caller.repliesFor(id).map(({ content }) => content.toString());
    t.is(one, other);
    t.is(orders(), 2);
    t.deepEqual(
      sandbox.cluster
        .history(unit)
        .slice(before)
        .map(({ what }) => what),
      ['stopped', 'started'],
    );
  });

  test('of the changes of a killed worker, one that never began runs, one that began does not, and one with a probe is found out', async (t) => {
    const { queue, a, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    const first = await startWorker(t, { ...a, PLUGIN_PATHS: plugins });
    const caller = await RawCaller.open(t, rabbit, queue);
    const send = (action: string, unit: string) => {
      const given = options();
      return [given.messageId, caller.send({ action, action_parameters: { unit } }, given)] as const;
    };
    const [begun, begunReply] = send('mark', 'a.service');
    await eventually('it runs', async () => (await effects()).length === 1);
    const [waiting, waitingReply] = send('mark', 'a.service');
    const [probed, probedReply] = send('mark_and_probe', 'b.service');
    await eventually('it runs', async () => (await effects()).length === 2);
    await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    first.process.kill('SIGKILL');
    await first.ended;
    t.like(await replyTo(caller, begunReply), { code: 'outcome_unknown' });
    t.is(await replyTo(caller, probedReply), 'found out: true');
    await eventually('the other one runs', async () => (await effects()).length === 3);
    await go();
    t.regex(String(await replyTo(caller, waitingReply)), /^made by/);
    t.deepEqual(await effects(), [begun, probed, waiting]);
  });

  test('two workers do not change one unit at the same time', async (t) => {
    const { queue, etcd, a, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    // RabbitMQ gives each of them one of two requests.
    const workers = [a, b].map(async (each) => startWorker(t, { ...each, PLUGIN_PATHS: plugins }));
    const pids = (await Promise.all(workers)).map((worker) => worker.process.pid);
    const caller = await RawCaller.open(t, rabbit, queue);
    const ids = [1, 2].map(() =>
      caller.send({ action: 'mark', action_parameters: { unit: 'a.service' } }, options()),
    );
    const states = async () => {
      const claims = await keysIn(etcd, '/fleet-manager/claims/');
      const found: string[] = claims.map(({ value }) => JSON.parse(value).state);
      return found.toSorted((one, other) => one.localeCompare(other)).join();
    };
    await eventually('both are claimed, and one is begun', async () => (await states()) === 'begun,claimed');
    // A change is begun before its handler starts.
    await eventually('it runs', async () => (await effects()).length > 0);
    t.is((await effects()).length, 1);
    await go();
    const makers = await Promise.all(ids.map(async (id) => replyTo(caller, id)));
    t.true(pids.every((pid) => makers.includes(`made by ${pid}`)));
    t.is(await states(), 'settled,settled');
  });

  test('a worker that is stopped gives a change that waits for its unit to another worker, which runs it', async (t) => {
    const { queue, a, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    const first = await startWorker(t, { ...a, PLUGIN_PATHS: plugins, SHUTDOWN_GRACE_SECONDS: '600' });
    const caller = await RawCaller.open(t, rabbit, queue);
    const send = () => caller.send({ action: 'mark', action_parameters: { unit: 'a.service' } }, options());
    const running = send();
    await eventually('it runs', async () => (await effects()).length === 1);
    const waiting = send();
    await eventually('it was taken', async () => (await caller.waiting()) === 0);
    const second = await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    first.process.kill('SIGTERM');
    await eventually('the first worker stops', () =>
      first.lines.some(({ message }) => message === 'shutting down'),
    );
    await go();
    t.is(await replyTo(caller, running), `made by ${first.process.pid}`);
    t.is(await replyTo(caller, waiting), `made by ${second.process.pid}`);
    t.is(await first.ended, 0);
    t.is((await effects()).length, 2);
  });

  test('without a claim store, a change that another worker may have begun is not run and not looked into', async (t) => {
    const { queue, a, b } = await twoWorkers(t, rabbit, { claims: false });
    const { plugins, effects } = await marking(t);
    const first = await startWorker(t, { ...a, PLUGIN_PATHS: plugins });
    const caller = await RawCaller.open(t, rabbit, queue);
    const id = caller.send({ action: 'mark_and_probe', action_parameters: { unit: 'a.service' } }, options());
    await eventually('it runs', async () => (await effects()).length === 1);
    await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    first.process.kill('SIGKILL');
    t.like(await replyTo(caller, id), { code: 'outcome_unknown' });
    t.is((await effects()).length, 1);
  });

  test('while the store is away, a worker answers reads, refuses changes, and stays ready', async (t) => {
    const { queue, etcd, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    await etcd.stop();
    const reads = await writePlugin(t, 'look', READ);
    const worker = await startWorker(t, { ...b, PLUGIN_PATHS: `${plugins}:${reads}`, HTTP_PORT: '0' });
    const caller = await RawCaller.open(t, rabbit, queue);
    const change = { action: 'mark', action_parameters: { unit: 'a.service' } };
    t.like(await replyTo(caller, caller.send(change, options())), { code: 'service_unavailable' });
    t.deepEqual(await effects(), []);
    t.is(await replyTo(caller, caller.send({ action: 'look' }, options())), 'seen');
    const started = worker.lines.find(({ message }) => message === 'service started');
    t.is((await fetch(`${String(started?.http)}/readyz`)).status, 200, JSON.stringify(started));
    await eventually('it is noticed', () =>
      worker.lines.some(({ message }) => message === 'claim store lost'),
    );
    await etcd.start();
    await go();
    await eventually('it is used again', () =>
      worker.lines.some(({ message }) => message === 'claim store restored'),
    );
    t.regex(String(await replyTo(caller, caller.send(change, options()))), /^made by/);
  });
}
