import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ConfirmChannel, type Sharing } from '../../src/rpc/confirm-channel.js';
import { PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { connectTo } from '../support/connect-to.js';

for (const broker of brokers()) {
  test(`${broker.name}: each message is routed or reported as unroutable separately`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const queue = `publisher_${randomUUID()}`;
    await connection.probe(async (channel) => channel.assertQueue(queue, { autoDelete: true }));
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        publisher.publish(
          { exchange: '', routingKey: n % 2 === 0 ? queue : 'no_such_queue' },
          Buffer.from('x'),
          {},
        ),
      ),
    );
    t.deepEqual(
      outcomes,
      outcomes.map((_, n) => (n % 2 === 0 ? 'routed' : 'unroutable')),
    );
    await connection.probe(async (channel) => channel.deleteQueue(queue));
  });

  test(`${broker.name}: messages in flight fail when the connection is lost`, async (t) => {
    const connection = await connectTo(broker);
    const publisher = await ConfirmChannel.open(connection);
    const published = publisher.publish({ exchange: '', routingKey: 'q' }, Buffer.from('x'), {});
    connection.lose(new Error('cut'));
    await t.throwsAsync(published, { message: 'cut' });
    await t.throwsAsync(publisher.publish({ exchange: '', routingKey: 'q' }, Buffer.from('x'), {}), {
      message: 'cut',
    });
    await connection.close(systemClock);
  });
}

for (const broker of brokers()) {
  test(`${broker.name}: a message gets the properties that are known when it is written, or is not written`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const queue = `publisher_${randomUUID()}`;
    await connection.probe(async (channel) => channel.assertQueue(queue, { autoDelete: true }));
    t.teardown(async () => connection.probe(async (channel) => channel.deleteQueue(queue)));
    const to = { exchange: '', routingKey: queue };
    const late = () => {
      throw new Error('too late');
    };
    for (const correlationId of ['first, on a channel of its own', 'second, on the shared channel']) {
      const sending = () => ({ correlationId });
      await t.throwsAsync(publisher.publish(to, Buffer.from('late'), {}, { sending: late }), {
        message: 'too late',
      });
      t.is(await publisher.publish(to, Buffer.from('x'), { type: 'kept' }, { sending }), 'routed');
      const message = await connection.probe(async (channel) => channel.get(queue, { noAck: true }));
      t.like(message, { properties: { correlationId, type: 'kept' } });
      t.is(String(message && message.content), 'x');
    }
  });

  test(`${broker.name}: a message id that was returned once is routed when it is used again`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const queue = `publisher_${randomUUID()}`;
    await connection.probe(async (channel) => channel.assertQueue(queue, { autoDelete: true }));
    t.teardown(async () => connection.probe(async (channel) => channel.deleteQueue(queue)));
    const outcomes: string[] = [];
    for (const routingKey of ['no_such_queue', queue, 'no_such_queue', queue])
      outcomes.push(
        await publisher.publish({ exchange: '', routingKey }, Buffer.from('x'), { messageId: 'm' }),
      );
    t.deepEqual(outcomes, ['unroutable', 'routed', 'unroutable', 'routed']);
  });

  test(`${broker.name}: each of the messages in progress fails when the connection is lost`, async (t) => {
    const connection = await connectTo(broker);
    const publisher = await ConfirmChannel.open(connection);
    const published = Array.from({ length: 5 }, () =>
      publisher.publish({ exchange: '', routingKey: 'q' }, Buffer.from('x'), {}),
    );
    connection.lose(new Error('cut'));
    t.deepEqual(
      (await Promise.allSettled(published)).map(({ status }) => status),
      Array(5).fill('rejected'),
    );
    await connection.close(systemClock);
  });
}

for (const broker of brokers())
  test(`${broker.name}: channels that are closed leave nothing behind on their connection`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const listeners = () => getEventListeners(connection.lost, 'abort').length;
    // Each has a channel of its own, as none that is as large was accepted before.
    const publishMany = async (size: number) =>
      Promise.all(
        Array.from({ length: 20 }, async () =>
          publisher.publish({ exchange: '', routingKey: 'none' }, Buffer.alloc(size), {}),
        ),
      );
    const opened = listeners();
    await publishMany(1);
    const before = listeners();
    t.is(before - opened, 3, 'two were open, and four wait for such messages now besides the shared one');
    for (const size of [2, 3, 4]) await publishMany(size);
    t.true(listeners() <= before, `${listeners()} after ${before}`);
  });

/** A publisher, which tells by the number of the channel where each message was published; the shared one is 0. */
async function openCounted(t: ExecutionContext, broker: TestBroker) {
  const model = await broker.open();
  const create = model.createConfirmChannel.bind(model);
  let channels = 0;
  const used: number[] = [];
  model.createConfirmChannel = async () => {
    const channel = await create();
    const number = channels++;
    const publish = channel.publish.bind(channel);
    channel.publish = (...given) => {
      used.push(number);
      return publish(...given);
    };
    return channel;
  };
  const connection = new BrokerConnection(model, broker);
  t.teardown(async () => connection.close(systemClock));
  const publisher = await ConfirmChannel.open(connection);
  /** Publishes messages of these sizes at the same time. @returns how many of them on the shared channel */
  return async (sizes: number[], sharing: Sharing, exchange = '') => {
    used.splice(0);
    const to = { exchange, routingKey: 'no_such_queue' };
    const sent = sizes.map(async (size) => publisher.publish(to, Buffer.alloc(size), {}, { sharing }));
    t.deepEqual(new Set(await Promise.all(sent)), new Set(['unroutable']));
    t.is(used.length, sizes.length);
    return used.filter((number) => number === 0).length;
  };
}

for (const broker of brokers()) {
  for (const sharing of ['again', 'once'] as const)
    test(`${broker.name}: a message that may be sent ${sharing} shares a channel when one as large was accepted`, async (t) => {
      const shared = await openCounted(t, broker);
      t.is(await shared([0], sharing), 0);
      t.is(await shared([0, 0, 1], sharing), 2);
      t.is(await shared([100], sharing), 0);
      t.is(await shared([1, 50, 100], sharing), 3);
      t.is(await shared([101], sharing), 0);
      t.is(await shared([101, 100], sharing), 2);
    });

  test(`${broker.name}: a message that must be alone shares no channel, whatever was accepted`, async (t) => {
    const shared = await openCounted(t, broker);
    t.is(await shared([100], 'again'), 0);
    t.is(await shared([1, 2, 100], 'alone'), 0);
    t.is(await shared([100], 'again'), 1);
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: each message that a full queue does not accept is reported as refused', async (t) => {
    const connection = await connectTo(rabbit);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const queue = `publisher_${randomUUID()}`;
    const full = { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } };
    await connection.probe(async (channel) => channel.assertQueue(queue, full));
    t.teardown(async () => connection.probe(async (channel) => channel.deleteQueue(queue)));
    const publish = async (routingKey: string) =>
      publisher.publish({ exchange: '', routingKey }, Buffer.from('x'), { messageId: 'm' });
    t.is(await publish(queue), 'routed');
    t.is(await publish(queue), 'nacked');
    t.is(await publish('no_such_queue'), 'unroutable');
    t.is(await publish(queue), 'nacked');
    await connection.probe(async (channel) => channel.purgeQueue(queue));
    t.is(await publish(queue), 'routed');
    t.false(connection.lost.aborted);
  });

  test("RabbitMQ: a message that is refused by closing the channel fails with the broker's own reason", async (t) => {
    const connection = await connectTo(rabbit);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const published = publisher.publish(
      { exchange: 'no_such_exchange', routingKey: 'q' },
      Buffer.from('x'),
      {},
    );
    const error = await t.throwsAsync(published, { instanceOf: PublishRefused });
    t.like(error, { code: 404, message: "NOT_FOUND - no exchange 'no_such_exchange' in vhost '/'" });
    t.false(connection.lost.aborted);
  });

  test('RabbitMQ: a message shares a channel only when its exchange has accepted one', async (t) => {
    const shared = await openCounted(t, rabbit);
    t.is(await shared([1], 'again'), 0);
    t.is(await shared([1], 'again', 'amq.topic'), 0);
    t.is(await shared([1, 1], 'again', 'amq.topic'), 2);
    t.is(await shared([1], 'again', 'amq.direct'), 0);
  });

  test('RabbitMQ: a message that AMQP cannot carry is reported, and the connection lives on', async (t) => {
    const connection = await connectTo(rabbit);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const to = { exchange: '', routingKey: 'no_such_queue' };
    const tooLong = '\uFFFD'.repeat(100);
    for (const options of [
      { correlationId: tooLong },
      { messageId: tooLong },
      { headers: { x: Symbol('x') } },
    ]) {
      await t.throwsAsync(publisher.publish(to, Buffer.from('x'), options), {
        instanceOf: UnpublishableError,
      });
    }
    await t.throwsAsync(publisher.publish({ exchange: '', routingKey: tooLong }, Buffer.from('x'), {}), {
      instanceOf: UnpublishableError,
    });
    t.is(await publisher.publish(to, Buffer.from('x'), {}), 'unroutable');
    t.false(connection.lost.aborted);
  });
}
