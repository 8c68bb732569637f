import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { AmqpEndpoint, type AmqpEndpointOptions } from '../../src/rpc/amqp-endpoint.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, cuttable, embeddedBroker, withChannels } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { connectTo } from '../support/connect-to.js';
import { logLines } from '../support/log-lines.js';
import { queuesOf } from '../../src/rpc/queues.js';

for (const broker of brokers()) {
  test(`${broker.name}: a pause that comes while consuming begins stays in effect`, async (t) => {
    const queue = `server_${randomUUID()}`;
    let asked: (() => void) | undefined;
    const connect = withChannels(broker.connect, (channel) => {
      const consume = channel.consume.bind(channel);
      channel.consume = async (...given) => {
        const consuming = consume(...given);
        asked?.();
        asked = undefined;
        return consuming;
      };
    });
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
  t.true(server.onPreferred, 'there is nothing better to go to');
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

/** An endpoint on the embedded broker that is ready; each channel for consumers is changed like that. */
async function open(
  t: ExecutionContext,
  {
    change = () => {},
    ...options
  }: Partial<AmqpEndpointOptions> & { change?: (channel: Channel) => void } = {},
) {
  const broker = embeddedBroker();
  const { connect: make, cut } = cuttable(broker);
  let connections = 0;
  const connect = withChannels(async (url, given) => {
    const connection = await make(url, given);
    connections++;
    return connection;
  }, change);
  const queue = `server_${randomUUID()}`;
  const endpoint = new AmqpEndpoint({
    connection: {
      connect,
      brokers: async () => [{ url: broker.url }],
      name: 'test',
      clock: systemClock,
      log: logLines().log,
    },
    queue,
    prefetch: 10,
    onDelivery: () => {},
    onReplaced: async () => {},
    ...options,
  });
  t.teardown(async () => endpoint.close());
  endpoint.start();
  const isReady = () => endpoint.notReady().length === 0;
  await eventually('it is ready', isReady);
  return { endpoint, queue, cut, isReady, connections: () => connections };
}

test('the loss of a connection is told', async (t) => {
  let losses = 0;
  const { cut, isReady, connections } = await open(t, { onLost: () => losses++ });
  t.is(losses, 0);
  cut();
  await eventually('it is connected again', () => connections() === 2 && isReady());
  t.is(losses, 1);
});

test('an endpoint that is closed is shutting down', async (t) => {
  const { endpoint } = await open(t);
  await endpoint.close();
  t.deepEqual(endpoint.notReady(), ['the service is shutting down']);
});

test('a connection on which consuming does not end is given up', async (t) => {
  let failures = 1;
  const { endpoint, connections } = await open(t, {
    change: (channel) => {
      const cancel = channel.cancel.bind(channel);
      channel.cancel = async (tag) => {
        if (failures-- > 0) throw new Error('it cannot be cancelled');
        return cancel(tag);
      };
    },
  });
  endpoint.pause('replies wait');
  await eventually('there is another connection', () => connections() === 2);
  t.deepEqual(endpoint.notReady().slice(0, 1), ['replies wait']);
});

test('a set-up in which a queue cannot be declared fails, and is tried again', async (t) => {
  let failures = 1;
  const { connections } = await open(t, {
    change: (channel) => {
      const declare = channel.assertQueue.bind(channel);
      channel.assertQueue = async (...given) => {
        if (failures-- > 0) throw new Error('it cannot be declared');
        return declare(...given);
      };
    },
  });
  t.is(connections(), 2);
});

test('requests are the last that it begins to take, and the first that it takes no more', async (t) => {
  const [begun, ended]: string[][] = [[], []];
  const queues = new Map<string, string>();
  const { endpoint, queue } = await open(t, {
    change: (channel) => {
      const consume = channel.consume.bind(channel);
      const cancel = channel.cancel.bind(channel);
      channel.consume = async (name, ...given) => {
        begun?.push(name);
        const consuming = await consume(name, ...given);
        queues.set(consuming.consumerTag, name);
        return consuming;
      };
      channel.cancel = async (tag) => {
        ended?.push(queues.get(tag) ?? '');
        return cancel(tag);
      };
    },
  });
  await endpoint.stopConsuming();
  t.deepEqual(begun, [`${queue}_suspects`, queue]);
  t.deepEqual(ended, [queue, `${queue}_suspects`]);
});
