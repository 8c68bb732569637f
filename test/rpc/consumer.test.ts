import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { Consumer, type Delivery } from '../../src/rpc/consumer.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { connectTo } from '../support/connect-to.js';

for (const broker of brokers()) {
  const world = async (t: ExecutionContext, { acknowledge = true } = {}) => {
    const connection = await connectTo(broker);
    const queue = `consumer_${randomUUID()}`;
    await connection.probe(async (channel) => channel.assertQueue(queue, { durable: true }));
    const elsewhere = await connectTo(broker);
    t.teardown(async () => {
      await connection.close(systemClock);
      await elsewhere.probe(async (channel) => channel.deleteQueue(queue));
      await elsewhere.close(systemClock);
    });
    const taken: string[] = [];
    const held: Delivery[] = [];
    const consumer = new Consumer(await connection.channel(), connection, {
      queue,
      prefetch: 10,
      onDelivery: (delivery) => {
        taken.push(delivery.content.toString());
        if (acknowledge) delivery.acknowledge();
        else held.push(delivery);
      },
    });
    const consumers = async () =>
      connection.probe(async (channel) => (await channel.checkQueue(queue)).consumerCount);
    const send = async (text: string) =>
      connection.probe(async (channel) => channel.sendToQueue(queue, Buffer.from(text)));
    /** Seen, and sent, by another connection. */
    const deliver = async (text: string) =>
      elsewhere.probe(async (channel) => channel.sendToQueue(queue, Buffer.from(text)));
    const other = {
      ready: async () => elsewhere.probe(async (channel) => (await channel.checkQueue(queue)).messageCount),
      take: async () =>
        elsewhere.probe(async (channel) => {
          const message = await channel.get(queue, { noAck: true });
          return message === false ? undefined : message.content.toString();
        }),
    };
    return { connection, consumer, taken, held, consumers, send, deliver, other };
  };

  test(`${broker.name}: a message that is given back comes again, and those before it do not`, async (t) => {
    const { consumer, taken, held, send, connection, other } = await world(t, { acknowledge: false });
    await consumer.setConsuming(true);
    for (const text of ['1', '2', '3']) await send(text);
    await eventually('they are taken', () => taken.length === 3);
    held[1]?.giveBack();
    await eventually('it comes again', () => taken.length === 4);
    t.deepEqual(
      held.map(({ content, redelivered }) => [String(content), redelivered]),
      [
        ['1', false],
        ['2', false],
        ['3', false],
        ['2', true],
      ],
    );
    for (const index of [0, 2, 3]) held[index]?.acknowledge();
    await consumer.setConsuming(false);
    t.false(connection.lost.aborted);
    await eventually('none is left', async () => (await other.ready()) === 0);
  });

  test(`${broker.name}: messages are taken only while consuming is wanted`, async (t) => {
    const { consumer, taken, consumers, send } = await world(t);
    await send('1');
    t.is(await consumers(), 0);
    t.true(await consumer.setConsuming(true));
    await eventually('it is taken', () => taken.length === 1);
    t.false(await consumer.setConsuming(false));
    t.is(await consumers(), 0);
    await send('2');
    t.true(await consumer.setConsuming(true));
    await eventually('it is taken', () => taken.length === 2);
    t.deepEqual(taken, ['1', '2']);
  });

  test(`${broker.name}: the last of several quick requests to consume or to pause counts`, async (t) => {
    const { consumer, consumers } = await world(t);
    const wish = async (...wanted: boolean[]) =>
      Promise.all(wanted.map(async (each) => consumer.setConsuming(each)));
    await wish(true, false, true, false);
    t.is(await consumers(), 0);
    await wish(true, false, true);
    t.is(await consumers(), 1);
    await wish(...Array.from({ length: 40 }, (_, n) => n % 2 === 1));
    t.is(await consumers(), 1);
  });

  // On the embedded broker the prefetch that was set last counts for the whole channel, and is never made smaller.
  if (broker.name === 'RabbitMQ') {
    test(`${broker.name}: the prefetch can be changed while messages are held`, async (t) => {
      const { consumer, held, consumers, deliver } = await world(t, { acknowledge: false });
      for (let n = 0; n < 40; n++) await deliver(String(n));
      await consumer.setConsuming(true);
      await eventually('the first ones are taken', () => held.length === 10);
      await consumer.setPrefetch(25);
      await eventually('more are taken', () => held.length === 25);
      t.is(await consumers(), 2);
      await consumer.setPrefetch(10);
      t.is(await consumers(), 1);
      for (const delivery of held.splice(0)) delivery.acknowledge();
      await eventually('as many as at first are taken', () => held.length === 10);
      t.false(await consumer.setConsuming(false));
      t.is(await consumers(), 0);
    });
  }

  test(`${broker.name}: a small message that is held does not keep others in memory`, async (t) => {
    const { consumer, held, deliver } = await world(t, { acknowledge: false });
    for (let n = 0; n < 10; n++) await deliver(`${n}`.padEnd(n % 2 === 0 ? 10 : 10_000));
    await consumer.setConsuming(true);
    await eventually('all are taken', () => held.length === 10);
    for (const { content } of held)
      t.true(content.buffer.byteLength <= Math.max(content.length, Buffer.poolSize));
  });

  test(`${broker.name}: messages that arrive after the loss of the connection are not taken`, async (t) => {
    const { connection, consumer, taken, deliver, other } = await world(t);
    await consumer.setConsuming(true);
    await deliver('1');
    await eventually('it is taken', () => taken.length === 1);
    connection.lose(new Error('lost'));
    await deliver('2');
    // The embedded broker counts it as ready until it is acknowledged, and delivers immediately.
    if (broker.name === 'RabbitMQ')
      await eventually('it is delivered', async () => (await other.ready()) === 0);
    await connection.close(systemClock);
    await eventually('it is back', async () => (await other.ready()) === 1);
    t.deepEqual(taken, ['1']);
  });

  test(`${broker.name}: nothing is acknowledged after the loss of the connection`, async (t) => {
    const { connection, consumer, held, deliver, other } = await world(t, { acknowledge: false });
    await consumer.setConsuming(true);
    await deliver('1');
    await deliver('2');
    await eventually('both are taken', () => held.length === 2);
    held[0]?.acknowledge();
    connection.lose(new Error('lost'));
    held[1]?.acknowledge();
    await connection.close(systemClock);
    await eventually('one is back', async () => (await other.ready()) === 1);
    t.is(await other.take(), '2');
  });
}
