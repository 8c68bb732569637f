import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { Consumer } from '../../src/rpc/consumer.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { liveOn } from '../support/live-on.js';

for (const broker of brokers()) {
  const world = async (t: ExecutionContext) => {
    const live = await liveOn(broker);
    const queue = `consumer_${randomUUID()}`;
    await live.probe(async (channel) => channel.assertQueue(queue, { durable: true }));
    t.teardown(async () => {
      await live.probe(async (channel) => channel.deleteQueue(queue));
      await live.close(systemClock);
    });
    const taken: string[] = [];
    const consumer = await Consumer.open(live, {
      queue,
      prefetch: 10,
      onDelivery: (delivery) => {
        taken.push(delivery.content.toString());
        delivery.acknowledge();
      },
    });
    const consumers = async () =>
      live.probe(async (channel) => (await channel.checkQueue(queue)).consumerCount);
    const send = async (text: string) =>
      live.probe(async (channel) => channel.sendToQueue(queue, Buffer.from(text)));
    return { live, consumer, taken, consumers, send };
  };

  test(`${broker.name}: messages are taken only while that is wanted`, async (t) => {
    const { consumer, taken, consumers, send } = await world(t);
    await send('1');
    t.is(await consumers(), 0);
    t.true(await consumer.take(true));
    await eventually('it is taken', () => taken.length === 1);
    t.false(await consumer.take(false));
    t.is(await consumers(), 0);
    await send('2');
    t.true(await consumer.take(true));
    await eventually('it is taken', () => taken.length === 2);
    t.deepEqual(taken, ['1', '2']);
  });

  test(`${broker.name}: of wishes that come quickly one after the other the last one counts`, async (t) => {
    const { consumer, consumers } = await world(t);
    const wish = async (...wanted: boolean[]) => Promise.all(wanted.map(async (each) => consumer.take(each)));
    await wish(true, false, true, false);
    t.is(await consumers(), 0);
    await wish(true, false, true);
    t.is(await consumers(), 1);
    await wish(...Array.from({ length: 40 }, (_, n) => n % 2 === 1));
    t.is(await consumers(), 1);
  });
}
