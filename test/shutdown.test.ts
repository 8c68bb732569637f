import { randomUUID } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { type Service, type ServiceOptions, startService } from '../src/composition.js';
import type { Isolation } from '../src/core/isolation.js';
import { Log } from '../src/telemetry/log.js';
import { clusterSettings, sshSettings } from '../src/sandbox/sandbox-settings.js';
import { EXAMPLE_MACHINES } from '../src/sandbox/example-cluster.js';
import { startSandbox } from '../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from './support/brokers.js';
import { DecidedClock } from './support/decided-clock.js';
import { endlessAction } from './support/endless-action.js';
import { eventually } from './support/eventually.js';
import { hasEtcd, ownEtcd } from './support/own-etcd.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { type Proxy, startProxy } from './support/proxy.js';
import { RawCaller } from './support/requests.js';
import { REACHES_NOTHING, serving } from './support/settings.js';
import { warningsDuring } from './support/warnings.js';
import { logLines } from './support/log-lines.js';
import { startWorker } from './support/worker.js';
import { keysIn } from './claims/open-store.js';
import { openInstallation } from './openaperture/open-installation.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;
const GRACE_MS = 1_000;
/** Room for its log and for the end of the process. */
const RESERVED_MS = 1_000;

// The whole service, which must end within five seconds of its grace time, whatever the broker does.
if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  /** A service with its gateway over a link that can fail, a caller, and how long its stop waited in all. */
  const serve = async (
    t: ExecutionContext<{ broker: OwnBroker }>,
    login: TestBroker,
    env: Record<string, string> = {},
    world: Pick<ServiceOptions, 'clusters' | 'ssh' | 'isolation'> = {},
  ) => {
    const { broker } = t.context;
    const link = await startProxy(t, { port: broker.port });
    const url = new URL(login.url);
    url.port = String(link.port);
    const queue = `queue_${randomUUID()}`;
    const clock = new DecidedClock();
    const logs = logLines();
    const configuration = serving({
      AMQP_URL: url.href,
      QUEUE_NAME: queue,
      ...REACHES_NOTHING,
      SHUTDOWN_GRACE_SECONDS: String(GRACE_MS / 1_000),
      ...env,
    });
    const service = await startService({
      configuration,
      log: logs.log,
      clock,
      ...world,
    });
    await eventually('it is ready', () => service.notReady().length === 0);
    return { service, link, queue, clock, logs, caller: await RawCaller.open(t, broker, queue) };
  };

  /** A cluster of one machine, which the service reaches by SSH over a link that can fail. */
  const oneMachine = async (t: ExecutionContext) => {
    const sandbox = await startSandbox({ ssh: true, machines: EXAMPLE_MACHINES.slice(0, 1) });
    t.teardown(async () => sandbox.stop());
    const ssh = sshSettings(sandbox);
    if (ssh === undefined || sandbox.ssh === undefined) throw new Error('the machine has no SSH server');
    const { privateKeyFile } = sandbox.ssh;
    return { sandbox, ssh, privateKeyFile, machine: await startProxy(t, { port: ssh.port }) };
  };

  /** Stops the service. @returns how long it waited, in milliseconds */
  const stopped = async ({ service, clock }: { service: Service; clock: DecidedClock }): Promise<number> => {
    const begun = clock.now();
    await service.stop();
    return clock.now() - begun;
  };
  const inTime = (t: ExecutionContext, ms: number, graceMs = GRACE_MS) =>
    t.true(ms <= graceMs + 5_000 - RESERVED_MS, `${ms} ms`);
  const request = { action: 'list_machines', etcd_token: 'nobody' };

  test('it stops in time while nothing is wrong', async (t) => {
    const served = await serve(t, t.context.broker);
    t.true((await stopped(served)) < 1_000);
  });

  if (hasEtcd)
    test('it keeps its claims until the processes of its handlers have ended', async (t) => {
      const etcd = await ownEtcd(t);
      const claimed = async () => (await keysIn(etcd, '/fleet-manager/workers/')).length;
      const seen: number[] = [];
      const isolation: Isolation = {
        enter: async () => ({ run: async () => {}, leave: () => {} }),
        run: async () => {},
        close: async () => {
          // Long enough for the end of the lease, which is one request.
          for (let times = 0; times < 50; times++) seen.push(await claimed());
        },
      };
      const served = await serve(
        t,
        t.context.broker,
        { CLAIMS_ETCD_URL: etcd.url },
        { isolation: () => isolation },
      );
      await eventually('it has its lease', async () => (await claimed()) === 1);
      await served.service.stop();
      t.deepEqual(new Set(seen), new Set([1]));
      await eventually('its lease has ended', async () => (await claimed()) === 0);
    });

  for (const [what, fail] of [
    ['silent', (link: Proxy) => link.swallow()],
    ['away', (link: Proxy) => link.refuse()],
  ] as const) {
    test(`it stops in time while the broker is ${what} and replies wait, without a warning`, async (t) => {
      const served = await serve(t, t.context.broker);
      for (let times = 0; times < 20; times++) served.caller.send(request);
      fail(served.link);
      const warned = await warningsDuring(async () => inTime(t, await stopped(served)));
      t.deepEqual(warned, []);
    });
  }

  test('it stops in time while its replies are refused, and the requests are in the queue again', async (t) => {
    const { broker } = t.context;
    const name = `user_${randomUUID()}`;
    const served = await serve(t, await broker.user(name, {}));
    await broker.user(name, { write: '^$' });
    const id = served.caller.send(request);
    await eventually('it is not ready', () => served.service.notReady().length > 0);
    const begun = served.clock.now();
    t.false(await served.service.stop(), 'not clean: it was begun');
    inTime(t, served.clock.now() - begun);
    const again = await served.caller.take('queue');
    t.is(again.properties.correlationId, id);
    t.true(again.fields.redelivered);
  });

  test.serial('it stops in time while the broker is blocked', async (t) => {
    const { broker } = t.context;
    const served = await serve(t, broker);
    await broker.alarm(true);
    t.teardown(async () => broker.alarm(false));
    await fetch(`${served.service.httpUrl}/v1/actions/list_machines`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'timeout-ms': '1000' },
      body: '{}',
    });
    inTime(t, await stopped(served));
  });

  test('it stops in time while a change does not end, and its caller learns that the outcome is unknown', async (t) => {
    const served = await serve(t, t.context.broker, await endlessAction(t));
    const id = served.caller.send({ action: 'endless' });
    await eventually('it runs', () => served.logs.find(/^begun$/).length === 1);
    inTime(t, await stopped(served));
    const { answer } = await served.caller.replyFor(id);
    t.is(answer.response_body.code, 'outcome_unknown');
  });

  for (const graceMs of [0, GRACE_MS, 5_000]) {
    test(`with ${graceMs} ms of grace it stops in time while the broker and a machine with an open login are frozen, and a change does not end`, async (t) => {
      const { sandbox, ssh, machine } = await oneMachine(t);
      const served = await serve(
        t,
        t.context.broker,
        { SHUTDOWN_GRACE_SECONDS: String(graceMs / 1_000), ...(await endlessAction(t)) },
        { clusters: clusterSettings(sandbox), ssh: { ...ssh, port: machine.port, hostKeys: 'off' } },
      );
      const { caller, link, logs } = served;
      const info = caller.send({ action: 'node_info', etcd_token: sandbox.token });
      t.is((await caller.replyFor(info)).answer.status, 'completed');
      caller.send({ action: 'endless' });
      await eventually('it runs', () => logs.find(/^begun$/).length === 1);
      machine.freeze();
      link.freeze();
      inTime(t, await stopped(served), graceMs);
    });
  }

  test('it stops in time while an action does not end its clean-up', async (t) => {
    const served = await serve(t, t.context.broker, await endlessAction(t, '() => new Promise(() => {})'));
    inTime(t, await stopped(served));
    t.is(served.logs.find(/^actions failed to clean up$/).length, 1);
  });

  test('SIGTERM ends a worker whose change does not end, after its caller got a reply', async (t) => {
    const { broker } = t.context;
    const queue = `queue_${randomUUID()}`;
    const worker = await startWorker(t, {
      NODE_ENV: 'test',
      AMQP_URL: broker.url,
      QUEUE_NAME: queue,
      FLEET_API_PORT: '4001',
      SSH_KNOWN_HOSTS: '/nowhere/known_hosts',
      SHUTDOWN_GRACE_SECONDS: '1',
      ...(await endlessAction(t)),
    });
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send({ action: 'endless' });
    await eventually('it runs', () => worker.lines.some(({ message }) => message === 'begun'));
    const begun = Date.now();
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
    // Much less than the 30 s that a stopped change has otherwise, also on a busy machine.
    t.true(Date.now() - begun < 25_000, `${Date.now() - begun} ms`);
    t.is((await caller.replyFor(id)).answer.response_body.code, 'outcome_unknown');
  });

  test('SIGTERM ends a worker while the broker and a machine with an open login are frozen', async (t) => {
    const { broker } = t.context;
    const { sandbox, ssh, privateKeyFile, machine } = await oneMachine(t);
    const link = await startProxy(t, { port: broker.port });
    const url = new URL(broker.url);
    url.port = String(link.port);
    const queue = `queue_${randomUUID()}`;
    const worker = await startWorker(t, {
      NODE_ENV: 'test',
      AMQP_URL: url.href,
      QUEUE_NAME: queue,
      ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
      FLEET_API_PORT: String(sandbox.fleetPort),
      ALLOWED_HOSTS: '127.0.0.0/8',
      SSH_USER: ssh.user,
      SSH_PORT: String(machine.port),
      SSH_KEY_FILE: privateKeyFile,
      SSH_HOST_KEYS: 'off',
      SHUTDOWN_GRACE_SECONDS: '0',
      ...(await endlessAction(t)),
    });
    const caller = await RawCaller.open(t, broker, queue);
    const { answer } = await caller.ask({ action: 'node_info', etcd_token: sandbox.token });
    t.is(answer.status, 'completed');
    caller.send({ action: 'endless' });
    await eventually('it runs', () => worker.lines.some(({ message }) => message === 'begun'));
    machine.freeze();
    link.freeze();
    const begun = Date.now();
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
    t.like(worker.lines.at(-1), { message: 'shut down', clean: false });
    // The tests above add up its waits; this one would only hang.
    t.true(Date.now() - begun < 25_000, `${Date.now() - begun} ms`);
  });

  test('it stops at once while the record of a request is checked at a Manager that never responds, and the request is in the queue again', async (t) => {
    const { broker } = t.context;
    const { env, manager, queue } = await openInstallation(t, [broker.url]);
    t.teardown(manager.hold(/rpc_requests/));
    const clock = new DecidedClock();
    const service = await startService({
      configuration: serving({
        ...env,
        SSH_KNOWN_HOSTS: '/nowhere/known_hosts',
        HTTP_PORT: 'off',
      }),
      log: Log.create({ level: 'error', format: 'json' }),
      clock,
    });
    await eventually('it is ready', () => service.notReady().length === 0);
    const caller = await RawCaller.open(t, broker, queue);
    caller.publish('{"id":13,"request_body":{"action":"list_machines","etcd_token":"nobody"}}');
    await eventually('its record is checked', () => manager.callsTo(/rpc_requests/).length > 0);
    const ms = await stopped({ service, clock });
    t.true(ms < 3_000, `${ms} ms`);
    t.regex(String((await caller.take('queue')).content), /"id":13/);
  });
}
