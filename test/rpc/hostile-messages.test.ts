import { randomUUID } from 'node:crypto';
import test from 'ava';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import { echo, held } from '../support/actions.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { headerField, longString, publishRaw, type RawProperties } from '../support/raw-message.js';
import { ManualClock } from '../support/manual-clock.js';
import { RawCaller, serveRequests } from '../support/requests.js';

const REQUEST = JSON.stringify({ request_body: { action: 'echo' } });
const text = (value: string) => Buffer.from(value);

/** Nested tables, up to the given depth. */
function nested(depth: number): Buffer {
  let table: Buffer = Buffer.alloc(0);
  for (let level = 0; level < depth; level++) table = headerField('x', 'F', longString(table));
  return table;
}

// Messages that only real frames can carry.
const broker = rabbitmq();
if (broker !== undefined) {
  for (const [what, headers] of [
    ['nested too deeply to be read', nested(8_000)],
    ['of a type that amqplib does not know', headerField('x', 'L', Buffer.alloc(8))],
  ] as const) {
    test(`a message with headers ${what} is dead-lettered, and the connection stays`, async (t) => {
      const { queue, logs } = await serveRequests(t, broker, [echo]);
      const caller = await RawCaller.open(t, broker, queue);
      await publishRaw(broker, queue, REQUEST, { headers, messageId: text('poison') });
      const aside = await caller.take('error queue');
      t.is(aside.content.toString(), REQUEST);
      t.is(aside.properties.messageId, 'poison');
      t.regex(String(aside.properties.headers?.['x-reason']), /headers cannot be read/);
      t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
      t.is(logs.find(/broker connection lost/).length, 0);
    });
  }

  test('the sender of a message with headers that cannot be read gets an error, in its reply queue and in its record', async (t) => {
    const sent: string[] = [];
    const ofRecords: ReplyChannel = {
      needsPlainReply: false,
      reaches: ({ recordId }) => recordId !== undefined,
      send: async ({ body }) => {
        sent.push(String(body));
        return 'sent';
      },
    };
    const { queue, service } = await serveRequests(t, broker, [echo], { channels: [ofRecords] });
    const caller = await RawCaller.open(t, broker, queue);
    const headers = headerField('x', 'L', Buffer.alloc(8));
    const replyTo = text(caller.replyQueue);
    const correlationId = text('unreadable');
    const body = JSON.stringify({ id: 13, request_body: { action: 'echo' } });
    await publishRaw(broker, queue, body, { headers, replyTo, correlationId });
    const { answer } = await caller.replyFor('unreadable');
    t.like(answer.response_body, {
      code: 'invalid_request',
      errors: ['Invalid message: its headers cannot be read'],
    });
    t.like(JSON.parse(sent[0] ?? ''), {
      id: 13,
      status: 'error',
      response_body: { code: 'invalid_request' },
    });
    t.is((await caller.take('error queue')).content.toString(), body);
    await eventually('nothing is held', () => service.held === 0);
  });

  for (const invented of ['g1h0AA==.abc', 'g1h2AAdyZXBseUAxAAACsAAAAABrBhHW.abc', '!.', '']) {
    test(`an invented direct reply-to (${invented}) costs no other caller its reply`, async (t) => {
      const { queue, logs, service } = await serveRequests(t, broker, [echo]);
      const caller = await RawCaller.open(t, broker, queue);
      caller.publish(REQUEST, { replyTo: `amq.rabbitmq.reply-to.${invented}` });
      const others = await Promise.all(
        Array.from({ length: 20 }, async () => caller.ask({ action: 'echo' })),
      );
      t.true(others.every(({ answer }) => answer.status === 'completed'));
      await eventually('nothing is held', () => service.held === 0);
      t.is(await caller.waiting(), 0);
      t.is(logs.find(/broker connection lost/).length, 0);
    });
  }

  test('a caller that uses direct reply-to gets its replies, even if others invent names', async (t) => {
    const { queue, logs } = await serveRequests(t, broker, [echo]);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const answers: unknown[] = [];
    await channel.consume(
      'amq.rabbitmq.reply-to',
      (message) => answers.push(JSON.parse(String(message?.content)).response_body.number),
      { noAck: true },
    );
    for (let number = 0; number < 20; number++) {
      const body = { request_body: { action: 'echo', action_parameters: { number } } };
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(body)), { replyTo: 'amq.rabbitmq.reply-to' });
      if (number === 10)
        channel.sendToQueue(queue, text(REQUEST), { replyTo: 'amq.rabbitmq.reply-to.g1h0AA==.a' });
    }
    await eventually('all are answered', () => new Set(answers).size === 20);
    t.false(logs.find(/^reply dropped$/).some(({ reason }) => /does not exist|is full/.test(String(reason))));
  });

  test('callers that use direct reply-to share one connection, also after an invented name closed it', async (t) => {
    let connections = 0;
    const counted: TestBroker = {
      ...broker,
      connect: async (url, options) => {
        connections++;
        return broker.connect(url, options);
      },
    };
    const { queue, service } = await serveRequests(t, counted, [echo]);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    let answers = 0;
    await channel.consume('amq.rabbitmq.reply-to', () => answers++, { noAck: true });
    const ask = async (times: number) => {
      for (let left = times; left > 0; left--) {
        const before = answers;
        channel.sendToQueue(queue, text(REQUEST), { replyTo: 'amq.rabbitmq.reply-to' });
        await eventually('it is answered', () => answers > before);
      }
    };
    await ask(5);
    t.is(connections, 2);
    channel.sendToQueue(queue, text(REQUEST), { replyTo: 'amq.rabbitmq.reply-to.g1h0AA==.a' });
    await eventually('nothing is held', async () => {
      const { messageCount } = await channel.checkQueue(queue);
      return service.held === 0 && messageCount === 0 && connections > 2;
    });
    const before = connections;
    await ask(5);
    t.true(connections <= before + 1, `${connections - before} more`);
  });

  test('a request with properties that cannot be written again is requeued with those that its reply needs', async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, service } = await serveRequests(t, broker, [action], {
      concurrency: 1,
      clock: new ManualClock(),
    });
    const caller = await RawCaller.open(t, broker, queue);
    caller.send({ action: 'act' });
    await eventually('it runs', () => begun() === 1);
    const essential = { correlationId: text('c'), replyTo: text('reply'), messageId: text('m') };
    const deadline = headerField('timeout-ms', 'I', Buffer.from([0, 0, 0x75, 0x30]));
    const large = Array.from({ length: 20 }, (_, n) =>
      headerField(`h${n}`, 'S', longString(Buffer.alloc(4_000, 'x'))),
    );
    const cases: RawProperties[] = [
      { ...essential, headers: deadline, timestamp: 2n ** 64n - 1n },
      { ...essential, headers: Buffer.concat([...large, deadline]) },
      { ...essential, headers: deadline, messageId: Buffer.alloc(100, 0xff) },
      {
        ...essential,
        headers: Buffer.concat([headerField('\u00ff'.repeat(100), 't', Buffer.from([1])), deadline]),
      },
      // Each of these bytes is read as a character of three bytes, so the name cannot be written again.
      {
        ...essential,
        headers: Buffer.concat([headerField(Buffer.alloc(100, 0xff), 't', Buffer.from([1])), deadline]),
      },
    ];
    const body = JSON.stringify({ request_body: { action: 'act' } });
    for (const properties of cases) await publishRaw(broker, queue, body, properties);
    await eventually('all are held', () => service.held === 1 + cases.length);
    const drained = service.drain(10_000);
    await eventually('they are requeued', () => service.held === 1);
    finishRun();
    t.true(await drained);
    for (const [index] of cases.entries()) {
      const { properties, content } = await caller.take('queue');
      t.is(content.toString(), body);
      t.like(properties, { correlationId: 'c', replyTo: 'reply' }, String(index));
      t.is(properties.headers?.['timeout-ms'], 30_000, String(index));
    }
  });

  test('messages to dead-letter are kept while the error queue is full, and that is reported', async (t) => {
    const queue = `test_${randomUUID()}`;
    const caller = await RawCaller.open(t, broker, queue);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    await channel.assertQueue(`${queue}_error`, {
      durable: true,
      maxLength: 1,
      arguments: { 'x-overflow': 'reject-publish' },
    });
    const { service, logs, cut } = await serveRequests(t, broker, [echo], { queue });
    caller.publish('garbage 1');
    await eventually('it is dead-lettered', async () => (await caller.waiting('error queue')) === 1);
    caller.publish('garbage 2');
    await eventually('that is logged', () => service.notReady().some((reason) => reason.includes('is full')));
    t.is(logs.find(/^queue full$/)[0]?.queue, `${queue}_error`);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
    // Delivered again, it is still one message.
    cut();
    await eventually('the loss is seen', () =>
      service.notReady().some((reason) => reason.includes('no connection')),
    );
    await eventually('it is held again, once', () => service.held === 1 && service.notReady().length === 1);
    t.is((await caller.take('error queue')).content.toString(), 'garbage 1');
    t.is((await caller.take('error queue')).content.toString(), 'garbage 2');
    await eventually('nothing is held', () => service.held === 0);
    t.deepEqual(service.notReady(), []);
    t.is(await caller.waiting('error queue'), 0);
  });

  test('a reply to a full reply queue is dropped and logged, and delays nothing', async (t) => {
    const { queue, logs, service } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue: replyTo } = await channel.assertQueue('', {
      exclusive: true,
      maxLength: 1,
      arguments: { 'x-overflow': 'reject-publish' },
    });
    for (let times = 0; times < 3; times++) caller.publish(REQUEST, { replyTo });
    await eventually(
      'nothing is held',
      () => logs.find(/request completed/).length === 3 && service.held === 0,
    );
    t.is(logs.find(/^reply dropped$/).length, 2);
  });
}
