import { randomUUID } from 'node:crypto';
import type { Channel, ConsumeMessage } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { Consumer, Delivery } from '../../src/rpc/consumer.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { connectTo } from '../support/connect-to.js';
import { settle, watched } from '../support/open-runner.js';

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

/** A consumer whose broker does what the test lets it do. */
function withoutBroker(prefetch: number, { cancels = async () => {} } = {}) {
  /** The prefetch of each consumer on the broker. */
  const open = new Map<string, number>();
  let next = 0;
  let made = 0;
  let failures = 0;
  const channel = {
    prefetch: async (count: number) => {
      next = count;
    },
    consume: async () => {
      const count = next;
      if (failures-- > 0) throw new Error('it cannot consume');
      const consumerTag = String(made++);
      open.set(consumerTag, count);
      return { consumerTag };
    },
    cancel: async (tag: string) => {
      await cancels();
      open.delete(tag);
    },
  };
  const connection = { lost: new AbortController().signal } as BrokerConnection;
  const consumer = new Consumer(channel as unknown as Channel, connection, {
    queue: 'q',
    prefetch,
    onDelivery: () => {},
  });
  return {
    consumer,
    parts: () => [...open.values()],
    made: () => made,
    fail: (times: number) => (failures = times),
  };
}

test('a consumer whose prefetch is set before it consumes begins with that one', async (t) => {
  const { consumer, parts } = withoutBroker(10);
  await consumer.setPrefetch(5);
  t.deepEqual(parts(), []);
  t.true(await consumer.setConsuming(true));
  t.deepEqual(parts(), [5]);
});

test('consumers are added for a larger prefetch, and the last ones cancelled for a smaller one', async (t) => {
  const { consumer, parts, made } = withoutBroker(10);
  await consumer.setConsuming(true);
  for (const [prefetch, expected] of [
    [25, [10, 15]],
    [45, [10, 15, 20]],
    [46, [10, 15, 20, 1]],
    [44, [10, 15, 20]],
    [26, [10, 15, 20]],
    [12, [10, 15]],
    [24, [10, 15]],
    [27, [10, 15, 2]],
    [10, [10]],
    [1, [10]],
    [30, [10, 20]],
  ] as const) {
    await consumer.setPrefetch(prefetch);
    t.deepEqual(parts(), expected, String(prefetch));
  }
  t.is(made(), 6, 'none was made again');
  await consumer.setPrefetch(31);
  t.false(await consumer.setConsuming(false));
  t.deepEqual(parts(), []);
});

test('a consumer for one message stays the same', async (t) => {
  const { consumer, made } = withoutBroker(1);
  for (let times = 0; times < 2; times++) await consumer.setConsuming(true);
  t.is(made(), 1);
});

test('a consumer has ended only when the broker has confirmed it', async (t) => {
  let confirm = () => {};
  const { consumer } = withoutBroker(1, {
    cancels: async () => new Promise<void>((resolve) => (confirm = resolve)),
  });
  await consumer.setConsuming(true);
  const ended = watched(consumer.setConsuming(false));
  await settle();
  t.is(ended(), undefined);
  confirm();
  await settle();
  t.false(ended());
});

test('a change that the broker refuses fails, and the next one is made all the same', async (t) => {
  const { consumer, parts, fail } = withoutBroker(10);
  fail(2);
  await t.throwsAsync(consumer.setConsuming(true), { message: 'it cannot consume' });
  await t.throwsAsync(consumer.setPrefetch(20), { message: 'it cannot consume' });
  t.true(await consumer.setConsuming(true));
  t.deepEqual(parts(), [20]);
});

interface Sent {
  redelivered?: boolean;
  suspects?: boolean;
  userId?: string;
  /** Empty: it is not known. */
  ownUser?: string;
}

/** A message as its channel gives it. */
function delivered(
  headers: Record<string, unknown>,
  { redelivered = false, suspects = false, userId = 'worker', ownUser = 'worker' }: Sent = {},
) {
  const lost = new AbortController();
  const user = ownUser === '' ? undefined : ownUser;
  const connection = { user, lost: lost.signal, lose: (reason: unknown) => lost.abort(reason) };
  const fails = () => {
    throw new Error('the channel is closed');
  };
  const message = { content: Buffer.from('{}'), properties: { headers, userId }, fields: { redelivered } };
  const delivery = new Delivery(message as unknown as ConsumeMessage, {
    channel: { ack: fails, nack: fails } as unknown as Channel,
    connection: connection as unknown as BrokerConnection,
    suspects,
  });
  return { delivery, lost };
}

test('a message may be a copy when it was delivered, moved or requeued before', (t) => {
  const kinds = ({ delivery: { mayHaveBegun, mayBeCopy } }: ReturnType<typeof delivered>) => ({
    mayHaveBegun,
    mayBeCopy,
  });
  t.deepEqual(kinds(delivered({})), { mayHaveBegun: false, mayBeCopy: false });
  t.deepEqual(kinds(delivered({ 'x-requeued': true })), { mayHaveBegun: false, mayBeCopy: true });
  t.deepEqual(kinds(delivered({ 'x-replayed': 1 })), { mayHaveBegun: false, mayBeCopy: true });
  t.deepEqual(kinds(delivered({}, { redelivered: true })), { mayHaveBegun: true, mayBeCopy: true });
  t.deepEqual(kinds(delivered({}, { suspects: true })), { mayHaveBegun: true, mayBeCopy: true });
});

test('that a message was requeued is believed of the own user of the service, and of all where that is not known', (t) => {
  const isCopy = (sent: Sent) => delivered({ 'x-requeued': true }, sent).delivery.mayBeCopy;
  t.true(isCopy({ userId: 'worker' }));
  t.false(isCopy({ userId: 'ops' }));
  t.false(isCopy({ userId: '' }));
  t.true(isCopy({ userId: 'ops', ownUser: '' }));
  // An operator may have another user than the service.
  t.true(delivered({ 'x-replayed': 1 }, { userId: 'ops' }).delivery.mayBeCopy);
});

test('how often a message came back is what its queue has counted, else 0', (t) => {
  for (const [count, expected] of [
    [undefined, 0],
    ['3', 0],
    [3, 3],
  ])
    t.is(delivered({ 'x-delivery-count': count }).delivery.returns, expected as number);
});

test('a connection whose channel takes no acknowledgement is given up', (t) => {
  for (const settled of ['acknowledge', 'giveBack'] as const) {
    const { delivery, lost } = delivered({});
    delivery[settled]();
    t.like(lost.signal.reason, { message: 'the channel is closed' });
  }
});
