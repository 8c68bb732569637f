import { randomUUID } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { startService } from '../src/composition.js';
import { rabbitmq } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { tellQueue } from './support/stuck-queue.js';
import { REACHES_NOTHING, serving } from './support/settings.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

// The whole service as a user of RabbitMQ with few permissions, as /readyz shows it.
if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  /** A service with its gateway. What the docs grant to the service and to its gateway is `service` and `both`. */
  const serve = async (
    t: ExecutionContext<{ broker: OwnBroker }>,
    permissionsOf: (queue: string) => Parameters<OwnBroker['user']>[1],
  ) => {
    const { broker } = t.context;
    const name = `user_${randomUUID()}`;
    const queue = `queue_${randomUUID()}`;
    const login = await broker.user(name, permissionsOf(queue));
    const logs = logLines();
    const service = await startService({
      configuration: serving({
        AMQP_URL: login.url,
        QUEUE_NAME: queue,
        ...REACHES_NOTHING,
        SHUTDOWN_GRACE_SECONDS: '0',
      }),
      log: logs.log,
    });
    t.teardown(async () => service.stop());
    const url = String(service.httpUrl);
    const readiness = async () => {
      const response = await fetch(`${url}/readyz`);
      const { reasons } = (await response.json()) as { reasons: string[] };
      return { status: response.status, reasons };
    };
    const ready = async () => eventually('it is ready', async () => (await readiness()).status === 200);
    const notReady = async (reason: RegExp) =>
      eventually(`it is not ready: ${reason}`, async () => {
        const { status, reasons } = await readiness();
        return status === 503 && reasons.some((each) => reason.test(each));
      });
    const grant = async (permissions: Parameters<OwnBroker['user']>[1]) => broker.user(name, permissions);
    return { broker, user: name, queue, url, logs, readiness, ready, notReady, grant };
  };
  const forBoth = (queue: string) => ({
    configure: `^(${queue}(_suspects|_error)?|fleet_manager\\.reply\\..*)$`,
    write: '^amq\\.default$',
    read: `^(${queue}(_suspects)?|fleet_manager\\.reply\\..*)$`,
  });

  test.serial('with the permissions in the docs the service and its gateway are ready', async (t) => {
    const { ready, readiness } = await serve(t, forBoth);
    await ready();
    t.deepEqual((await readiness()).reasons, []);
  });

  for (const [permission, ofService] of [
    ['configure', (queue: string) => `^${queue}(_suspects|_error)?$`],
    ['read', (queue: string) => `^${queue}(_suspects)?$`],
  ] as const)
    test.serial(
      `without the ${permission} permission of its gateway it is not ready, says why, and goes on when the permission is there`,
      async (t) => {
        const { queue, ready, notReady, readiness, grant } = await serve(t, (name) => ({
          ...forBoth(name),
          [permission]: ofService(name),
        }));
        await notReady(
          /^the HTTP gateway: amqp:\/\/127\.0\.0\.1:\d+ cannot be used: ACCESS_REFUSED - access to queue 'fleet_manager\.reply\..*' in vhost '\/' refused for user '.*' \(it lacks the (configure or )?read permission\)$/,
        );
        await eventually('the service itself is ready', async () => (await readiness()).reasons.length === 1);
        await grant(forBoth(queue));
        await ready();
        t.pass();
      },
    );

  test.serial('when its gateway cannot connect again it is not ready', async (t) => {
    const { queue, broker, ready, notReady, grant } = await serve(t, forBoth);
    await ready();
    await grant({ ...forBoth(queue), configure: `^${queue}(_suspects|_error)?$` });
    await broker.closeConnections();
    await notReady(/^the HTTP gateway: amqp:\/\/127\.0\.0\.1:\d+ cannot be used: ACCESS_REFUSED/);
    await grant(forBoth(queue));
    await ready();
    t.pass();
  });

  test.serial(
    'when the broker refuses a request of its gateway it is not ready until the broker accepts them',
    async (t) => {
      const { queue, url, logs, ready, notReady, grant } = await serve(t, forBoth);
      await ready();
      await grant({ ...forBoth(queue), write: '^$' });
      const response = await fetch(`${url}/v1/actions/list_machines`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"etcd_token":"nobody"}',
      });
      t.is(response.status, 503);
      await notReady(
        /^the HTTP gateway: the broker refuses requests: ACCESS_REFUSED - .*'amq\.default'.* \(it lacks the write permission\)$/,
      );
      await grant(forBoth(queue));
      await ready();
      t.is(logs.find(/^requests refused$/).length, 1);
      t.is(logs.find(/^requests no longer refused$/).length, 1);
    },
  );

  /** Sends a request to the gateway of a service, which nobody can answer well: no cluster is reached. */
  const ask = async (url: string, timeoutMs = 30_000) =>
    fetch(`${url}/v1/actions/list_machines`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'timeout-ms': String(timeoutMs) },
      body: '{"etcd_token":"nobody"}',
    });

  test.serial(
    'while the user may open no connection for the gateway it is not ready, and has the text of the broker',
    async (t) => {
      const { broker, user, ready, readiness } = await serve(t, forBoth);
      await ready();
      await broker.ctl('set_user_limits', user, '{"max-connections": 1}');
      // One of the two connections gets in. RabbitMQ may count two that come at the same time too late, and then both do.
      await eventually('one is refused', async () => {
        const { reasons } = await readiness();
        if (reasons.length === 0) await broker.closeConnections();
        return reasons.some((each) => /connection limit \(1\) is reached/.test(each));
      });
      await eventually('only one is missing', async () => (await readiness()).reasons.length === 1);
      await broker.ctl('clear_user_limits', user, 'max-connections');
      await ready();
      t.pass();
    },
  );

  test.serial(
    'while the broker accepts no messages it is not ready, also when nobody calls its gateway',
    async (t) => {
      const { broker, ready, notReady } = await serve(t, forBoth);
      await ready();
      await broker.alarm(true);
      t.teardown(async () => broker.alarm(false));
      await notReady(/^the HTTP gateway: the broker accepts no messages: low on memory$/);
      await broker.alarm(false);
      await ready();
      t.pass();
    },
  );

  test.serial(
    'when its gateway loses the write permission it is not ready, also when nobody calls that',
    async (t) => {
      const { queue, ready, notReady, grant } = await serve(t, forBoth);
      await ready();
      await grant({ ...forBoth(queue), write: '^$' });
      await notReady(/^the HTTP gateway: the broker refuses requests: ACCESS_REFUSED - /);
      await grant(forBoth(queue));
      await ready();
      t.pass();
    },
  );

  test.serial('while the user has no channels for the gateway it is not ready', async (t) => {
    const { broker, user, ready, notReady } = await serve(t, forBoth);
    await ready();
    await broker.ctl('set_user_limits', user, '{"max-channels": 1}');
    await broker.closeConnections();
    await notReady(/^the HTTP gateway: .*number of channels opened for user/);
    await broker.ctl('clear_user_limits', user, 'max-channels');
    await ready();
    t.pass();
  });

  test.serial(
    'when its reply queue is deleted the gateway makes another one, and is ready again',
    async (t) => {
      const { broker, url, logs, ready } = await serve(t, forBoth);
      await ready();
      const names = (await broker.ctl('-q', 'list_queues', 'name')).split('\n');
      const lost = () =>
        logs.find(/^broker connection lost$/).filter(({ component }) => component === 'gateway');
      for (const name of names.filter((each) => each.startsWith('fleet_manager.reply.')))
        await broker.ctl('delete_queue', name);
      await eventually('it is noticed', () => lost().length === 1);
      await ready();
      t.not((await ask(url)).status, 504);
    },
  );

  test.serial('while the queue confirms no request of the gateway it is not ready', async (t) => {
    const { broker, queue, url, ready, notReady } = await serve(t, forBoth);
    await ready();
    await tellQueue(broker, queue, 'suspend');
    const asked = ask(url, 1_000);
    await notReady(/^the HTTP gateway: the broker confirms no requests: look for the queue queue_/);
    t.is((await asked).status, 504);
    await tellQueue(broker, queue, 'resume');
    await ready();
  });
}
