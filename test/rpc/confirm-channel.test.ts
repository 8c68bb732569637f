import { randomUUID } from 'node:crypto';
import test from 'ava';
import { ConfirmChannel } from '../../src/rpc/confirm-channel.js';
import { PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, rabbitmq } from '../support/brokers.js';
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
