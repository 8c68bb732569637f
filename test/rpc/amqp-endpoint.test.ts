import { randomUUID } from 'node:crypto';
import test from 'ava';
import { AmqpEndpoint } from '../../src/rpc/amqp-endpoint.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { connectTo } from '../support/connect-to.js';
import { logLines } from '../support/log-lines.js';
import { queuesOf } from '../../src/rpc/queues.js';

for (const broker of brokers()) {
  test(`${broker.name}: a pause that comes while consuming begins stays in effect`, async (t) => {
    const queue = `server_${randomUUID()}`;
    let asked: (() => void) | undefined;
    const connect: Connect = async (url, options) => {
      const connection = await broker.connect(url, options);
      const createChannel = connection.createChannel.bind(connection);
      connection.createChannel = async () => {
        const channel = await createChannel();
        const consume = channel.consume.bind(channel);
        channel.consume = async (...given) => {
          const consuming = consume(...given);
          asked?.();
          asked = undefined;
          return consuming;
        };
        return channel;
      };
      return connection;
    };
    let isSetUp = false;
    const server = new AmqpEndpoint({
      connection: {
        connect,
        brokers: async () => [{ url: broker.url }],
        onUsed: () => (isSetUp = true),
        name: 'test',
        clock: systemClock,
        log: logLines().log,
      },
      queue,
      prefetch: 10,
      onDelivery: () => {},
      onReplaced: async () => {},
    });
    let paused = false;
    asked = () => {
      paused = true;
      server.pause('answers wait');
    };
    const connection = await connectTo(broker);
    t.teardown(async () => {
      await server.close();
      for (const name of queuesOf(queue))
        await connection.probe(async (channel) => channel.deleteQueue(name));
      await connection.close(systemClock);
    });
    const consumers = async () =>
      connection.probe(async (channel) => (await channel.checkQueue(queue)).consumerCount);
    server.start();
    await eventually('it is connected', () => isSetUp);
    t.true(paused);
    t.deepEqual(server.notReady(), ['answers wait']);
    t.is(await consumers(), 0);
    server.resume();
    await eventually('it takes messages again', async () => (await consumers()) === 1);
    t.deepEqual(server.notReady(), []);
    server.pause('answers wait');
    await eventually('it takes no more messages', async () => (await consumers()) === 0);
    t.deepEqual(server.notReady(), ['answers wait']);
  });
}

test('why nothing is consumed is told: that it stops before a pause, and a pause before a missing connection', async (t) => {
  const server = new AmqpEndpoint({
    connection: {
      connect: async () => Promise.reject(new Error('unreachable')),
      brokers: async () => [],
      name: 'test',
      clock: systemClock,
      log: logLines().log,
    },
    queue: 'requests',
    prefetch: 10,
    onDelivery: () => {},
    onReplaced: async () => {},
  });
  const unconnected = ['no connection to a broker: not connected yet'];
  t.deepEqual(server.notReady(), unconnected);
  server.pause('replies wait');
  t.deepEqual(server.notReady(), ['replies wait']);
  server.resume();
  t.deepEqual(server.notReady(), unconnected);
  server.pause('replies wait');
  await server.stopConsuming();
  t.deepEqual(server.notReady(), ['the service is shutting down']);
  await server.close();
});
