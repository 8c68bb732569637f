import { randomUUID } from 'node:crypto';
import type { Channel, ChannelModel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { type Codec, DecodeError } from '../../src/rpc/codec/codec.js';
import { jsonRequestCodec } from '../../src/rpc/codec/json.js';
import { queuesOf } from '../../src/rpc/queues.js';
import { doing, held } from '../support/actions.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { newerRabbitmq, startOwnBroker } from '../support/own-broker.js';
import { connectionLoser, makeQueue, RawCaller, serveRequests } from '../support/requests.js';

const REQUEST = JSON.stringify({ request_body: { action: 'act' } });
const QUORUM = { makes: { type: 'quorum' } } as const;
/** How often a message may come back to a queue that the service makes. */
const [OF_REQUESTS, OF_SUSPECTS] = [20, 100];

async function channelTo(t: ExecutionContext, broker: TestBroker): Promise<Channel> {
  const connection = await broker.open();
  t.teardown(async () => connection.close());
  const channel = await connection.createChannel();
  // The broker closes it when it refuses something.
  channel.on('error', () => {});
  return channel;
}

/** The arguments of the queues that the service makes, in the order of `queuesOf`. */
function quorumArguments(queue: string): Record<string, unknown>[] {
  const quorum = (limit: number) => ({ 'x-queue-type': 'quorum', 'x-delivery-limit': limit });
  const deadLettersTo = (name: string) => ({
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': name,
    'x-dead-letter-strategy': 'at-least-once',
    'x-overflow': 'reject-publish',
  });
  return [
    { ...quorum(OF_REQUESTS), ...deadLettersTo(`${queue}_suspects`) },
    { ...quorum(OF_SUSPECTS), ...deadLettersTo(`${queue}_error`) },
    quorum(2 ** 31 - 1),
  ];
}

/** Asserts that an existing queue has these arguments: the broker refuses to declare it with others. */
async function hasArguments(t: ExecutionContext, broker: TestBroker, queue: string, args: unknown) {
  const channel = await channelTo(t, broker);
  await t.notThrowsAsync(async () => channel.assertQueue(queue, { durable: true, arguments: args }), queue);
}

/**
 * Takes a message from wherever it is, and is lost with it, until it is in the error queue. RabbitMQ 4.3 does not count what a worker
 * gives back itself.
 * @returns it, and how often it was taken from the other two
 */
async function takeUntilDead(connection: ChannelModel, queue: string) {
  const taken = { requests: 0, suspects: 0 };
  const isTaken = async (name: string) => {
    const worker = await connection.createChannel();
    const message = await worker.get(name);
    await worker.close();
    return message !== false;
  };
  const channel = await connection.createChannel();
  const dead = await eventually('it is in the error queue', async () => {
    while (await isTaken(queue)) taken.requests++;
    while (await isTaken(`${queue}_suspects`)) taken.suspects++;
    const message = await channel.get(`${queue}_error`, { noAck: true });
    return message === false ? undefined : message;
  });
  return { ...dead, taken };
}

/** Two different programs serve the same tests: the installed RabbitMQ, and a newer one. */
async function testedBrokers(): Promise<TestBroker[]> {
  const installed = rabbitmq();
  if (installed === undefined) return [];
  const root = await newerRabbitmq();
  if (root === undefined) return [installed];
  const { broker, remove } = await startOwnBroker([], { root });
  test.after.always(remove);
  return [installed, { ...broker, name: 'newer RabbitMQ' }];
}

for (const broker of await testedBrokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(over('what the service makes are quorum queues when it is told so'), async (t) => {
    const { queue } = await serveRequests(t, broker, [doing(async () => ({ done: true }))], QUORUM);
    const expected = quorumArguments(queue);
    for (const [n, each] of queuesOf(queue).entries()) await hasArguments(t, broker, each, expected[n]);
    const caller = await RawCaller.open(t, broker, queue);
    t.deepEqual((await caller.ask({ action: 'act' })).answer.response_body, { done: true });
  });

  test(
    over('an existing classic queue is used as it is, also when new ones are quorum queues'),
    async (t) => {
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, queue, { maxLength: 100 });
      const action = doing(async () => ({ done: true }));
      const { logs } = await serveRequests(t, broker, [action], { queue, ...QUORUM });
      await hasArguments(t, broker, queue, { 'x-max-length': 100 });
      await hasArguments(t, broker, `${queue}_suspects`, quorumArguments(queue)[1]);
      const caller = await RawCaller.open(t, broker, queue);
      t.deepEqual((await caller.ask({ action: 'act' })).answer.response_body, { done: true });
      t.deepEqual(
        logs.lines.filter(({ level }) => level === 'warn' || level === 'error'),
        [],
      );
    },
  );

  test(over('an error queue that is deleted is made again as a quorum queue'), async (t) => {
    const { queue, events } = await serveRequests(t, broker, [doing(async () => ({}))], QUORUM);
    let deadLetters = 0;
    events.on('deadLettered', () => deadLetters++);
    const channel = await channelTo(t, broker);
    await channel.deleteQueue(`${queue}_error`);
    const caller = await RawCaller.open(t, broker, queue);
    caller.publish('no request');
    await eventually('it is dead-lettered', () => deadLetters === 1);
    t.is((await caller.take('error queue')).content.toString(), 'no request');
    await hasArguments(t, broker, `${queue}_error`, quorumArguments(queue)[2]);
  });

  test(
    over('a request that comes back again and again ends in the error queue, with the reason'),
    async (t) => {
      const { queue, service } = await serveRequests(t, broker, [doing(async () => ({}))], QUORUM);
      await service.drain(0);
      await service.close();
      const caller = await RawCaller.open(t, broker, queue);
      const correlationId = caller.sendRaw(REQUEST, { persistent: true, priority: 3 });
      const connection = await broker.open();
      t.teardown(async () => connection.close());
      const { content, properties, taken } = await takeUntilDead(connection, queue);
      t.is(taken.requests, 1 + OF_REQUESTS);
      // RabbitMQ 4.3 goes on from the count of the first queue.
      t.true(
        taken.suspects >= OF_SUSPECTS - OF_REQUESTS && taken.suspects <= 1 + OF_SUSPECTS,
        String(taken.suspects),
      );
      t.is(content.toString(), REQUEST);
      t.like(properties, { replyTo: caller.replyQueue, correlationId, priority: 3 });
      t.like(properties.headers?.['x-death']?.[0], {
        reason: 'delivery_limit',
        queue: `${queue}_suspects`,
        count: 1,
      });
    },
  );

  test(over('changes that only wait run once each, however often the connection is lost'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const running = await serveRequests(t, broker, [action], { concurrency: 1, ...QUORUM });
    const { service, queue } = running;
    const loseConnection = connectionLoser(running);
    const caller = await RawCaller.open(t, broker, queue);
    const sent = ['a', 'b', 'c'].map((messageId) => caller.sendRaw(REQUEST, { messageId, persistent: true }));
    await eventually('one runs', () => begun() === 1 && service.held === 3);
    for (let losses = 0; losses <= OF_REQUESTS; losses++) await loseConnection(2);
    await eventually('all are answered', () => {
      finishRun();
      return sent.every((id) => caller.repliesFor(id)[0]?.content.includes('"completed"'));
    });
    t.is(begun(), 3);
    t.is(await caller.waiting('error queue'), 0);
  });

  test(over('requests that come back with one that ends workers when it is read are answered'), async (t) => {
    let cut = () => {};
    const codec: Codec = {
      ...jsonRequestCodec,
      decode: (body) => {
        if (!Buffer.from(body).includes('lethal')) return jsonRequestCodec.decode(body);
        cut();
        throw new DecodeError('this ends the worker');
      },
    };
    const queue = `test_${randomUUID()}`;
    const { service } = await serveRequests(t, broker, [doing(async () => ({}))], { queue, ...QUORUM });
    await service.drain(0);
    await service.close();
    const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
    suspects.sendRaw(JSON.stringify({ request_body: { action: 'lethal' } }), { persistent: true });
    const ids = ['a', 'b', 'c'].map((messageId) =>
      suspects.sendRaw(REQUEST, { messageId, persistent: true }),
    );
    const running = await serveRequests(t, broker, [doing(async () => ({ done: true }))], {
      queue,
      codecs: [codec],
      waits: false,
      ...QUORUM,
    });
    cut = running.cut;
    for (const id of ids) t.is((await suspects.replyFor(id)).answer.status, 'completed');
  });
}
