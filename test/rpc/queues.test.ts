import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ensureQueues, queuesOf } from '../../src/rpc/queues.js';
import { ConnectionManager } from '../../src/rpc/connection-manager.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';

/** A broker with a topic exchange, and what a service does on it for each connection. */
async function world(t: ExecutionContext, broker: TestBroker) {
  const [exchange, queue] = [`exchange_${randomUUID()}`, `queue_${randomUUID()}`];
  const logs = logLines();
  const connection = await broker.open();
  const channel = await connection.createChannel();
  await channel.assertExchange(exchange, 'topic', { durable: true });
  t.teardown(async () => {
    const last = await connection.createChannel();
    for (const each of queuesOf(queue)) await last.deleteQueue(each).catch(() => {});
    await last.deleteExchange(exchange).catch(() => {});
    await connection.close();
  });
  /** Connects, and ensures that the queues exist. */
  const ensure = async (boundTo?: string) => {
    const connections = new ConnectionManager({
      connect: broker.connect,
      brokers: async () => [{ url: broker.url }],
      name: 'test',
      onConnected: async (opened, step) =>
        ensureQueues(
          opened,
          {
            queue,
            bindings:
              boundTo === undefined
                ? undefined
                : async (name) => [{ exchange: boundTo, routingKey: `key.${name}` }],
            log: logs.log,
          },
          step,
        ),
      clock: systemClock,
      log: logs.log,
    });
    connections.start();
    t.teardown(async () => connections.close());
    await connections.whenConnected(new AbortController().signal);
  };
  return { exchange, queue, channel, ensure, logs };
}

/** Whether a message to the exchange reaches the queue. */
async function reaches(channel: Channel, exchange: string, queue: string): Promise<boolean> {
  channel.publish(exchange, `key.${queue}`, Buffer.from('to the exchange'));
  channel.sendToQueue(queue, Buffer.from('to the queue'));
  const found: string[] = [];
  await eventually('the second has arrived', async () => {
    const message = await channel.get(queue, { noAck: true });
    if (message !== false) found.push(message.content.toString());
    return found.includes('to the queue');
  });
  return found.includes('to the exchange');
}

for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(over('a queue that the service created is bound as configured, and stays so'), async (t) => {
    const { exchange, queue, channel, ensure, logs } = await world(t, broker);
    for (let times = 0; times < 2; times++) {
      await ensure(exchange);
      t.true(await reaches(channel, exchange, queue));
    }
    t.deepEqual(logs.lines, []);
  });

  test(over('an existing queue is left unchanged, without the binding'), async (t) => {
    const { exchange, queue, channel, ensure } = await world(t, broker);
    await channel.assertQueue(queue, { durable: true, maxPriority: 3 });
    await ensure(exchange);
    t.false(await reaches(channel, exchange, queue));
  });

  test(over('a queue without a configured binding is not bound'), async (t) => {
    const { exchange, queue, channel, ensure } = await world(t, broker);
    await ensure();
    t.false(await reaches(channel, exchange, queue));
  });

  test(
    over('messages that wait in a queue are still there after the service has checked it again'),
    async (t) => {
      const { queue, channel, ensure } = await world(t, broker);
      await ensure();
      for (const each of queuesOf(queue)) channel.sendToQueue(each, Buffer.from('waiting'));
      await ensure();
      for (const each of queuesOf(queue)) t.is((await channel.checkQueue(each)).messageCount, 1, each);
    },
  );

  test(
    over('a missing exchange is logged once, and the queue exists for callers that know its name'),
    async (t) => {
      const { queue, channel, ensure, logs } = await world(t, broker);
      await ensure('no_such_exchange');
      await ensure('no_such_exchange');
      t.is(logs.lines.length, 1);
      t.like(logs.lines[0], {
        level: 'warn',
        message: 'queue declared but not bound',
        queue,
        reason: 'the broker has no exchange no_such_exchange; create it and bind the queue to it',
        routing_key: `key.${queue}`,
      });
      t.is((await channel.checkQueue(queue)).messageCount, 0);
    },
  );
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: queues that the service created survive a restart of the broker', async (t) => {
    const { queue, channel, ensure } = await world(t, rabbit);
    await ensure();
    // The broker refuses to declare an existing queue with other arguments, and closes the channel.
    channel.on('error', () => {});
    const suspects = `${queue}_suspects`;
    const deadLettersTo = (deadLetterRoutingKey: string) => ({
      deadLetterExchange: '',
      deadLetterRoutingKey,
    });
    for (const [each, options] of [
      [queue, deadLettersTo(suspects)],
      [suspects, deadLettersTo(`${queue}_error`)],
      [`${queue}_error`, {}],
    ] as const)
      await t.notThrowsAsync(async () => channel.assertQueue(each, { durable: true, ...options }));
  });

  test('RabbitMQ: a message that is rejected in a queue that the service created goes to its queue of suspects', async (t) => {
    const { queue, channel, ensure } = await world(t, rabbit);
    await ensure();
    channel.sendToQueue(queue, Buffer.from('rejected'));
    const taken = async (from: string) =>
      eventually(`a message in ${from}`, async () => {
        const message = await channel.get(from);
        return message === false ? undefined : message;
      });
    channel.reject(await taken(queue), false);
    const aside = await taken(`${queue}_suspects`);
    t.is(aside.content.toString(), 'rejected');
  });

  test('RabbitMQ: an error queue that already exists is left unchanged', async (t) => {
    const { queue, channel, ensure, logs } = await world(t, rabbit);
    channel.on('error', () => {});
    const options = { durable: true, maxLength: 10 };
    await channel.assertQueue(`${queue}_error`, options);
    await ensure();
    await t.notThrowsAsync(async () => channel.assertQueue(`${queue}_error`, options));
    t.deepEqual(logs.lines, []);
  });
}

const NOT_FOUND = Object.assign(new Error('NOT_FOUND'), { code: 404 });
const REFUSED = Object.assign(new Error('ACCESS_REFUSED'), { code: 403 });

/** Ensures the queues of `q`, with a binding, on a broker where these operations fail. */
function ensureOn(failures: Readonly<Record<string, Error>>) {
  const { log, lines } = logLines();
  const asked: string[] = [];
  const answer = async (what: string) => {
    await new Promise(setImmediate);
    asked.push(what);
    const failure = failures[what];
    if (failure !== undefined) throw failure;
  };
  const channel = {
    checkQueue: async (name: string) => answer(`look for ${name}`),
    assertQueue: async (name: string) => answer(`declare ${name}`),
    checkExchange: async (name: string) => answer(`look for ${name}`),
    bindQueue: async (queue: string, exchange: string) => answer(`bind ${queue} to ${exchange}`),
  };
  const probe = async (ask: (on: typeof channel) => Promise<unknown>) => ask(channel);
  const bindings = async () => [{ exchange: 'x', routingKey: 'key' }];
  const ensured = ensureQueues(
    { probe } as unknown as BrokerConnection,
    { queue: 'q', bindings, log },
    async (_what, run) => run(),
  );
  return { ensured, asked, lines };
}

const NONE = { 'look for q': NOT_FOUND, 'look for q_suspects': NOT_FOUND, 'look for q_error': NOT_FOUND };

test('what is missing is declared, and bound at last', async (t) => {
  const { ensured, asked, lines } = ensureOn(NONE);
  await ensured;
  t.deepEqual(asked, [
    'look for q_error',
    'declare q_error',
    'look for q_suspects',
    'declare q_suspects',
    'look for q',
    'declare q',
    'look for x',
    'bind q to x',
  ]);
  t.deepEqual(lines, []);
});

test('nothing is declared when everything is there', async (t) => {
  const { ensured, asked } = ensureOn({});
  await ensured;
  t.deepEqual(asked, ['look for q_error', 'look for q_suspects', 'look for q']);
});

test('queues are not ensured when the broker refuses one of the steps, which is the last then', async (t) => {
  for (const step of [
    'look for q_error',
    'declare q_error',
    'declare q_suspects',
    'look for q',
    'declare q',
    'look for x',
    'bind q to x',
  ]) {
    const { ensured, asked } = ensureOn({ ...NONE, [step]: REFUSED });
    t.is(await t.throwsAsync(ensured), REFUSED, step);
    t.is(asked.at(-1), step);
  }
});

test('a queue is not bound to an exchange that is missing', async (t) => {
  const { ensured, asked, lines } = ensureOn({ ...NONE, 'look for x': NOT_FOUND });
  await ensured;
  t.is(asked.at(-1), 'look for x');
  t.is(lines.length, 1);
});
