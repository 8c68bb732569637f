import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ConfirmChannel, type Sharing } from '../../src/rpc/confirm-channel.js';
import { MayHaveArrived, PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { connectTo } from '../support/connect-to.js';
import { settle, watched } from '../support/open-runner.js';
import { type ScriptedMessage, scriptedConnection } from '../support/scripted-connection.js';

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

for (const broker of brokers())
  test(`${broker.name}: channels that are closed leave nothing behind on their connection`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const publisher = await ConfirmChannel.open(connection);
    const listeners = () => getEventListeners(connection.lost, 'abort').length;
    // Each has a channel of its own, as none that is as large was accepted before.
    const publishMany = async (size: number) =>
      Promise.all(
        Array.from({ length: 20 }, async () =>
          publisher.publish({ exchange: '', routingKey: 'none' }, Buffer.alloc(size), {}),
        ),
      );
    const opened = listeners();
    await publishMany(1);
    const before = listeners();
    t.is(before - opened, 3, 'two were open, and four wait for such messages now besides the shared one');
    for (const size of [2, 3, 4]) await publishMany(size);
    t.true(listeners() <= before, `${listeners()} after ${before}`);
  });

/** A publisher, which tells by the number of the channel where each message was published; the shared one is 0. */
async function openCounted(t: ExecutionContext, broker: TestBroker) {
  const model = await broker.open();
  const create = model.createConfirmChannel.bind(model);
  let channels = 0;
  const used: number[] = [];
  model.createConfirmChannel = async () => {
    const channel = await create();
    const number = channels++;
    const publish = channel.publish.bind(channel);
    channel.publish = (...given) => {
      used.push(number);
      return publish(...given);
    };
    return channel;
  };
  const connection = new BrokerConnection(model, broker);
  t.teardown(async () => connection.close(systemClock));
  const publisher = await ConfirmChannel.open(connection);
  /** Publishes messages of these sizes at the same time. @returns how many of them on the shared channel */
  return async (sizes: number[], sharing: Sharing, exchange = '') => {
    used.splice(0);
    const to = { exchange, routingKey: 'no_such_queue' };
    const sent = sizes.map(async (size) => publisher.publish(to, Buffer.alloc(size), {}, { sharing }));
    t.deepEqual(new Set(await Promise.all(sent)), new Set(['unroutable']));
    t.is(used.length, sizes.length);
    return used.filter((number) => number === 0).length;
  };
}

for (const broker of brokers()) {
  for (const sharing of ['again', 'once'] as const)
    test(`${broker.name}: a message that may be sent ${sharing} shares a channel when one as large was accepted`, async (t) => {
      const shared = await openCounted(t, broker);
      t.is(await shared([0], sharing), 0);
      t.is(await shared([0, 0, 1], sharing), 2);
      t.is(await shared([100], sharing), 0);
      t.is(await shared([1, 50, 100], sharing), 3);
      t.is(await shared([101], sharing), 0);
      t.is(await shared([101, 100], sharing), 2);
    });

  test(`${broker.name}: a message that must be alone shares no channel, whatever was accepted`, async (t) => {
    const shared = await openCounted(t, broker);
    t.is(await shared([100], 'again'), 0);
    t.is(await shared([1, 2, 100], 'alone'), 0);
    t.is(await shared([100], 'again'), 1);
  });
}

/** A publisher on a broker that does what the test says; `own` is how many messages may have a channel of their own. */
async function openScripted({ own = 64 } = {}) {
  const scripted = scriptedConnection({ channelMax: own + 3 });
  const publisher = await ConfirmChannel.open(scripted.connection);
  const { written } = scripted;
  const publish = async (
    bytes: number,
    { type, sharing, signal }: { sharing?: Sharing; signal?: AbortSignal; type?: string } = {},
  ) => {
    const published = publisher.publish(
      { exchange: '', routingKey: 'q' },
      Buffer.alloc(bytes),
      { type },
      { sharing, stop: signal && { signal } },
    );
    const outcome = watched(published.catch(() => undefined));
    await settle();
    return { published, outcome };
  };
  /** The messages that were written since the last call. */
  const taken = () => written.splice(0);
  /** Has the broker accept a message of this size, so that others share a channel. */
  const acceptOne = async (bytes: number) => {
    const { published } = await publish(bytes);
    for (const message of taken()) message.confirm();
    await published;
  };
  return { ...scripted, publish, taken, acceptOne };
}

type Sent = Awaited<ReturnType<Awaited<ReturnType<typeof openScripted>>['publish']>>;

const sizes = (messages: readonly ScriptedMessage[]) => messages.map(({ bytes }) => bytes);
const numbers = (messages: readonly ScriptedMessage[]) => messages.map(({ channel }) => channel.number);

test('messages that must be alone are written one after the other, when the broker has accepted the one before', async (t) => {
  const { publish, taken } = await openScripted();
  const sent: Sent[] = [];
  for (const bytes of [1, 2, 3]) sent.push(await publish(bytes, { sharing: 'alone' }));
  const [first] = taken();
  t.is(first?.bytes, 1);
  t.is(first?.options.messageId, undefined, 'it needs none');
  first?.channel.accept();
  await settle();
  const [second] = taken();
  t.is(second?.bytes, 2);
  t.is(sent[0]?.outcome(), undefined, 'accepted, but not confirmed');
  first?.confirm();
  t.is(await sent[0]?.published, 'routed');
  t.deepEqual(taken(), []);
  second?.channel.refuse(404, 'NOT_FOUND');
  await t.throwsAsync(async () => sent[1]?.published, { instanceOf: PublishRefused, message: 'NOT_FOUND' });
  await settle();
  const [third] = taken();
  third?.confirm();
  t.is(await sent[2]?.published, 'routed');
});

test('of messages that share a channel, the one that the broker returns is unroutable', async (t) => {
  const { publish, taken, acceptOne } = await openScripted();
  await acceptOne(10);
  const [returned, routed] = [await publish(10), await publish(10)];
  const [first, second] = taken();
  t.is(first?.channel, second?.channel);
  first?.channel.emit('return', { properties: first.options });
  second?.confirm();
  t.is(await routed.published, 'routed');
  first?.confirm();
  t.is(await returned.published, 'unroutable');
});

test('a channel is used again when it carries nothing, also after a message that cannot be encoded', async (t) => {
  const { publish, taken, channels } = await openScripted();
  for (const bytes of [1, 2, 3]) {
    const { published } = await publish(bytes, { type: 'cannot be encoded' });
    await t.throwsAsync(published, { instanceOf: UnpublishableError, message: /a bad property/ });
    const sent = await publish(bytes);
    const [message] = taken();
    message?.channel.accept();
    await settle();
    message?.confirm();
    t.is(await sent.published, 'routed');
    t.is(message?.channel, channels[1]);
  }
  t.is(channels.length, 2);
});

test('a message that waits for a channel of its own shares one when one as large was accepted, and lets the next one go', async (t) => {
  const { publish, taken, channels } = await openScripted({ own: 1 });
  const sent: Sent[] = [];
  for (const bytes of [10, 10, 20]) sent.push(await publish(bytes, { sharing: 'once' }));
  const [first] = taken();
  t.is(first?.bytes, 10);
  first?.confirm();
  await settle();
  const others = taken();
  t.deepEqual(sizes(others), [10, 20]);
  t.deepEqual(numbers(others), [0, 1]);
  // It is on the shared channel with another one, and may arrive only once.
  sent.push(await publish(10));
  t.deepEqual(numbers(taken()), [0]);
  channels[0]?.refuse(404, 'NOT_FOUND');
  await t.throwsAsync(async () => sent[1]?.published, { instanceOf: MayHaveArrived, message: 'NOT_FOUND' });
  others[1]?.confirm();
  await settle();
  const again = taken();
  t.deepEqual(sizes(again), [10]);
  again[0]?.confirm();
  t.deepEqual(
    sent.map(({ outcome }) => outcome()),
    ['routed', undefined, 'routed', undefined],
  );
  t.is(await sent[3]?.published, 'routed');
});

test('each time that the broker closes the shared channel, one takes its place, and meanwhile none is shared', async (t) => {
  const { publish, taken, acceptOne, channels, script } = await openScripted();
  await acceptOne(10);
  let shared = 0;
  for (let times = 0; times < 3; times++) {
    const opens: (() => void)[] = [];
    script.opening = async () => new Promise((resolve) => opens.push(resolve));
    const given = new AbortController();
    const [once, again, left] = [
      await publish(10, { sharing: 'once' }),
      await publish(10),
      await publish(10, { signal: given.signal }),
    ];
    t.deepEqual(numbers(taken()), [shared, shared, shared]);
    given.abort(new Error('nobody waits'));
    const before = channels.length;
    channels[shared]?.refuse(404, 'NOT_FOUND');
    for (const each of [once, left])
      await t.throwsAsync(each.published, { instanceOf: MayHaveArrived, message: 'NOT_FOUND' });
    const [repeated] = taken();
    repeated?.confirm();
    t.is(await again.published, 'routed');
    const meanwhile = await publish(1);
    const [own] = taken();
    t.is(own?.channel, repeated?.channel, 'the spare one');
    own?.confirm();
    t.is(await meanwhile.published, 'routed');
    for (const open of opens) open();
    await settle();
    t.is(channels.length, before + 1);
    shared = before;
    // The only one on its channel is the one that is refused.
    script.opening = async () => {};
    const alone = await publish(10);
    t.deepEqual(numbers(taken()), [shared]);
    channels[shared]?.refuse(406, 'PRECONDITION_FAILED');
    await t.throwsAsync(alone.published, { instanceOf: PublishRefused, message: 'PRECONDITION_FAILED' });
    await settle();
    shared++;
    t.is(channels.length, shared + 1);
  }
});

test('when the broker has said how large a message may be, none that is larger is written, also of those that wait', async (t) => {
  const { publish, taken } = await openScripted({ own: 1 });
  const sent: Sent[] = [];
  for (const bytes of [100, 51, 50]) sent.push(await publish(bytes));
  const [first] = taken();
  first?.channel.refuse(406, 'PRECONDITION_FAILED - message size 100 is larger than configured max size 50');
  for (const [n, bytes] of [100, 51].entries()) {
    const error = await t.throwsAsync(async () => sent[n]?.published, { instanceOf: PublishRefused });
    t.regex(error?.message ?? '', new RegExp(`message size ${bytes} is larger than configured max size 50$`));
    t.like(error, { code: 406, maxBytes: 50 });
  }
  await settle();
  const [third] = taken();
  t.is(third?.bytes, 50);
  third?.confirm();
  t.is(await sent[2]?.published, 'routed');
  await t.throwsAsync((await publish(51)).published, {
    message: /^message size 51 is larger .* max size 50$/,
  });
  t.deepEqual(taken(), []);
  await publish(50);
  t.is(taken().length, 1);
});

test('a message for which nobody waits keeps its place until its channel is closed', async (t) => {
  const { publish, taken, connection } = await openScripted({ own: 1 });
  const given = new AbortController();
  const first = await publish(1, { signal: given.signal });
  const second = await publish(2, { signal: given.signal });
  const third = await publish(3);
  const [message] = taken();
  given.abort(new Error('nobody waits'));
  await settle();
  t.deepEqual(taken(), []);
  message?.channel.finishClose?.();
  for (const { published } of [first, second]) await t.throwsAsync(published, { message: 'nobody waits' });
  await settle();
  const [next] = taken();
  t.is(next?.bytes, 3);
  next?.confirm();
  t.is(await third.published, 'routed');
  t.false(connection.lost.aborted);
});

test('a message for which nobody waits fails for that reason, also when the connection is lost before its channel is closed', async (t) => {
  const { publish, connection } = await openScripted();
  const given = new AbortController();
  const { published } = await publish(1, { signal: given.signal });
  given.abort(new Error('nobody waits'));
  await settle();
  connection.lose(new Error('cut'));
  await t.throwsAsync(published, { message: 'nobody waits' });
});

test('a connection that is lost over too many channels tells how many it used', async (t) => {
  const { publish, taken, connection } = await openScripted();
  const given = new AbortController();
  for (const bytes of [1, 2, 3, 4, 5]) await publish(bytes);
  await publish(6, { signal: given.signal });
  given.abort(new Error('nobody waits'));
  await settle();
  taken()[5]?.channel.finishClose?.();
  await settle();
  const text =
    "NOT_ALLOWED - number of channels opened for user 'x' has reached the maximum allowed limit of (9)";
  connection.lose(Object.assign(new Error(text), { code: 530 }));
  t.is(connection.channelLimit.within(Infinity), 2, 'half of five');
});

test('a channel that cannot be opened is the loss of the connection', async (t) => {
  const { publish, connection, script } = await openScripted();
  await publish(1);
  script.opening = async () => Promise.reject(new Error('no more channels'));
  const { published } = await publish(2);
  await t.throwsAsync(published, { name: 'ConnectionLost', message: 'no more channels' });
  t.true(connection.lost.aborted);
});

test('a connection that is lost while its channels are opened has no publisher', async (t) => {
  const { connection, script } = scriptedConnection();
  script.opening = async () => connection.lose(new Error('cut'));
  await t.throwsAsync(ConfirmChannel.open(connection), { message: 'cut' });
});

test('a channel that is closed without a reason is the loss of the connection, which may have the reason', async (t) => {
  for (const known of [undefined, 'cut']) {
    const { publish, taken, connection, model } = await openScripted();
    const { published } = await publish(1);
    taken()[0]?.channel.end();
    if (known !== undefined) model.emit('close', new Error(known));
    await t.throwsAsync(published, { name: 'ConnectionLost', message: known ?? 'a channel was closed' });
    t.true(connection.lost.aborted);
  }
});

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

  test('RabbitMQ: a message shares a channel only when its exchange has accepted one', async (t) => {
    const shared = await openCounted(t, rabbit);
    t.is(await shared([1], 'again'), 0);
    t.is(await shared([1], 'again', 'amq.topic'), 0);
    t.is(await shared([1, 1], 'again', 'amq.topic'), 2);
    t.is(await shared([1], 'again', 'amq.direct'), 0);
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
