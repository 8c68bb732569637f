import { randomUUID } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { makeQueue } from '../support/requests.js';
import { examine, isFailure } from './examine.js';
import { queuesOf } from '../../src/rpc/queues.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  const isOk = (t: ExecutionContext, run: Awaited<ReturnType<typeof examine>>) =>
    t.is(run.of('broker').result, 'ok', run.text);

  type Permissions = Parameters<OwnBroker['user']>[1];

  /** Runs doctor as a user with these permissions. */
  const examineAs = async (
    t: ExecutionContext<{ broker: OwnBroker }>,
    permissions: Permissions,
    { queue = `queue_${randomUUID()}`, gateway = false } = {},
  ) => {
    const { url } = await t.context.broker.user(`user_${randomUUID()}`, permissions);
    const HTTP_PORT = gateway ? '8080' : 'off';
    return examine({ AMQP_URL: url, QUEUE_NAME: queue, FLEET_API_PORT: '4001', HTTP_PORT });
  };

  for (const [permission, refused] of [
    ['configure', 'queue'],
    ['write', 'exchange'],
    ['read', 'queue'],
  ] as const) {
    test(`doctor names a missing ${permission} permission and how to grant it`, async (t) => {
      const result = await examineAs(t, { [permission]: '^$' });
      const text = `ACCESS_REFUSED - access to ${refused} '.*' in vhost '/' refused for user '.*' \\(it lacks the ${permission} permission\\)`;
      isFailure(
        t,
        result,
        'broker',
        new RegExp(`${text}[^]*-> grant it: rabbitmqctl set_permissions -p / user_`),
      );
    });
  }

  test('doctor finds no fault with the permissions that the documentation names', async (t) => {
    const queue = `queue_${randomUUID()}`;
    const own = {
      configure: `^${queue}(_suspects|_error)?$`,
      write: '^amq\\.default$',
      read: `^${queue}(_suspects)?$`,
    };
    isOk(t, await examineAs(t, own, { queue }));
    isFailure(t, await examineAs(t, own, { queue, gateway: true }), 'broker', /fleet_manager\.reply\./);
    const withGateway = {
      configure: `^(${queue}(_suspects|_error)?|fleet_manager\\.reply\\..*)$`,
      write: '^amq\\.default$',
      read: `^(${queue}(_suspects)?|fleet_manager\\.reply\\..*)$`,
    };
    isOk(t, await examineAs(t, withGateway, { queue, gateway: true }));
  });

  test('doctor needs no configure permission for queues that exist, and leaves queues and messages as they are', async (t) => {
    const { broker } = t.context;
    const queue = `queue_${randomUUID()}`;
    for (const name of queuesOf(queue)) await makeQueue(broker, name);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createConfirmChannel();
    channel.sendToQueue(queue, Buffer.from('waiting'));
    await channel.waitForConfirms();
    const queues = await broker.ctl('list_queues', 'name');
    isOk(t, await examineAs(t, { configure: '^$' }, { queue }));
    t.true((await broker.ctl('list_queues', 'name')).includes(queue));
    t.false(/reply|probe/.test(queues));
    const message = await channel.get(queue, { noAck: true });
    t.false(message !== false && message.fields.redelivered);
    t.is(message !== false && message.content.toString(), 'waiting');
  });

  test.serial('doctor names a broker that accepts no messages', async (t) => {
    const { broker } = t.context;
    await broker.alarm(true);
    t.teardown(async () => broker.alarm(false));
    await eventually('the alarm is on', async () =>
      (await broker.eval('rabbit_alarm:get_alarms()')).includes('memory'),
    );
    const result = await examine({ AMQP_URL: broker.url, FLEET_API_PORT: '4001', HTTP_PORT: 'off' });
    isFailure(t, result, 'broker', /the broker accepts no messages: low on memory/);
  });
}
