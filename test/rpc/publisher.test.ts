import { randomUUID } from 'node:crypto';
import test from 'ava';
import { ConfirmChannel, UnpublishableError } from '../../src/rpc/confirm-channel.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, rabbitmq } from '../support/brokers.js';
import { liveOn } from '../support/live-on.js';

for (const broker of brokers()) {
  test(`${broker.name}: a message is routed, or told as unroutable, each by itself`, async (t) => {
    const live = await liveOn(broker);
    t.teardown(async () => live.close(systemClock));
    const publisher = await ConfirmChannel.open(live);
    const queue = `publisher_${randomUUID()}`;
    await live.probe(async (channel) => channel.assertQueue(queue, { autoDelete: true }));
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
    await live.probe(async (channel) => channel.deleteQueue(queue));
  });

  test(`${broker.name}: what is under way when the connection is lost fails`, async (t) => {
    const live = await liveOn(broker);
    const publisher = await ConfirmChannel.open(live);
    const published = publisher.publish({ exchange: '', routingKey: 'q' }, Buffer.from('x'), {});
    live.lose(new Error('cut'));
    await t.throwsAsync(published, { message: 'cut' });
    await t.throwsAsync(publisher.publish({ exchange: '', routingKey: 'q' }, Buffer.from('x'), {}), {
      message: 'cut',
    });
    await live.close(systemClock);
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test("RabbitMQ: what is refused by closing the channel fails with the broker's own reason", async (t) => {
    const live = await liveOn(rabbit);
    t.teardown(async () => live.close(systemClock));
    const publisher = await ConfirmChannel.open(live);
    const published = publisher.publish(
      { exchange: 'no_such_exchange', routingKey: 'q' },
      Buffer.from('x'),
      {},
    );
    const error = await t.throwsAsync(published);
    t.regex(error?.message ?? '', /NOT_FOUND - no exchange 'no_such_exchange'/);
    t.is(live.lost.reason, error);
  });

  test('RabbitMQ: a message that AMQP cannot carry is told, and the connection lives on', async (t) => {
    const live = await liveOn(rabbit);
    t.teardown(async () => live.close(systemClock));
    const publisher = await ConfirmChannel.open(live);
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
    t.false(live.lost.aborted);
  });
}
