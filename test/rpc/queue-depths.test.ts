import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { QueueDepths } from '../../src/rpc/queue-depths.js';
import { queuesOf } from '../../src/rpc/queues.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { ManualClock } from '../support/manual-clock.js';
import { ownBroker } from '../support/own-broker.js';
import { tellQueue } from '../support/stuck-queue.js';
import { eventually } from '../support/eventually.js';

/** Queues with 2, 0 and 1 messages, and a connection. */
async function opened(t: ExecutionContext, broker: TestBroker) {
  const queue = `test_${randomUUID()}`;
  const names = queuesOf(queue);
  const own = await broker.open();
  const channel = await own.createChannel();
  t.teardown(async () => {
    const last = await own.createChannel();
    for (const name of names) await last.deleteQueue(name).catch(() => {});
    await own.close();
  });
  for (const name of names) await channel.assertQueue(name);
  const [requests = '', suspects = '', errors = ''] = names;
  for (const name of [requests, requests, errors]) channel.sendToQueue(name, Buffer.from('x'));
  await eventually('they are there', async () => {
    const counts = await Promise.all(
      names.map(async (name) => (await channel.checkQueue(name)).messageCount),
    );
    return counts.join() === '2,0,1';
  });
  const clock = new ManualClock();
  const connection = new BrokerConnection(await broker.open(), { url: broker.url });
  t.teardown(async () => connection.close(clock));
  const current: { connection: BrokerConnection | undefined } = { connection };
  const depths = new QueueDepths({ queue, current: () => current.connection, clock });
  return { channel, requests, suspects, errors, clock, connection, current, depths };
}

for (const broker of brokers()) {
  test(`${broker.name}: the ready messages of each queue are told, and asked for every 5 s at most`, async (t) => {
    const { channel, requests, suspects, errors, clock, depths } = await opened(t, broker);
    const told = [
      { queue: requests, role: 'requests', messages: 2 },
      { queue: suspects, role: 'suspects', messages: 0 },
      { queue: errors, role: 'errors', messages: 1 },
    ] as const;
    t.deepEqual(await depths.read(), told);
    await channel.purgeQueue(requests);
    t.deepEqual(await depths.read(), told);
    clock.advance(5_000);
    t.like((await depths.read())[0], { messages: 0 });
  });

  test(`${broker.name}: a queue that does not exist is left out, and costs no connection`, async (t) => {
    const { channel, suspects, connection, depths } = await opened(t, broker);
    await channel.deleteQueue(suspects);
    t.deepEqual(
      (await depths.read()).map(({ role }) => role),
      ['requests', 'errors'],
    );
    t.false(connection.lost.aborted);
  });

  test(`${broker.name}: nothing is told without a connection, nor what another one said`, async (t) => {
    const { current, connection, depths } = await opened(t, broker);
    t.is((await depths.read()).length, 3);
    current.connection = undefined;
    t.deepEqual(await depths.read(), []);
    const lost = new BrokerConnection(await broker.open(), { url: broker.url });
    lost.lose(new Error('cut by the test'));
    t.teardown(async () => lost.close(new ManualClock()));
    current.connection = lost;
    t.deepEqual(await depths.read(), []);
    current.connection = connection;
    t.is((await depths.read()).length, 3);
  });
}

if (rabbitmq() !== undefined)
  test('a queue that hangs costs a reader a second, is asked once, and the earlier numbers are told for a minute', async (t) => {
    const broker = await ownBroker(t);
    const { requests, clock, connection, depths } = await opened(t, broker);
    let probes = 0;
    const probe = connection.probe.bind(connection);
    connection.probe = async (ask) => {
      probes++;
      return probe(ask);
    };
    t.is((await depths.read()).length, 3);
    await tellQueue(broker, requests, 'suspend');
    t.teardown(async () => tellQueue(broker, requests, 'resume'));
    const late = async () => {
      const reading = depths.read();
      await new Promise(setImmediate);
      clock.advance(1_000);
      return reading;
    };
    clock.advance(5_000);
    t.is((await late()).length, 3);
    t.is((await late()).length, 3);
    t.is(probes, 4);
    clock.advance(60_000);
    t.deepEqual(await late(), []);
    t.is(probes, 4);
  });
