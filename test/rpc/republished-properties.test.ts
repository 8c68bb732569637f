import { once } from 'node:events';
import type { MessageProperties, Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { republishedProperties } from '../../src/rpc/republished-properties.js';
import { echo, held } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { RawCaller, serveRequests } from '../support/requests.js';

const BODY = JSON.stringify({ request_body: { action: 'act' } });

const KEPT = {
  priority: 3,
  replyTo: 'somewhere',
  correlationId: 'correlation',
  messageId: 'message',
  type: 'type',
  appId: 'application',
  timestamp: 1_700_000_000,
  contentType: 'application/json',
  contentEncoding: 'utf-8',
};
const HEADERS = { 'timeout-ms': 60_000, text: 'kept', number: 7, yes: true, no: false };

/** Texts of 255 and of 258 bytes in UTF-8: the longest that a property can have, and one too long. */
const LONGEST = '\uFFFD'.repeat(85);
const TOO_LONG = '\uFFFD'.repeat(86);

const keptOf = (properties: Partial<MessageProperties>) =>
  republishedProperties(properties as MessageProperties);

test('a text that AMQP can carry is kept, and one that is too long is left out', (t) => {
  for (const name of [
    'contentType',
    'contentEncoding',
    'correlationId',
    'replyTo',
    'messageId',
    'type',
    'appId',
  ] as const) {
    t.is(keptOf({ [name]: LONGEST })[name], LONGEST, name);
    t.false(name in keptOf({ [name]: TOO_LONG }), name);
    t.false(name in keptOf({ [name]: undefined }), name);
    t.is(keptOf({ [name]: TOO_LONG, priority: 3 }).priority, 3, name);
  }
});

test('a header whose name is too long is left out, and a time that is none', (t) => {
  t.deepEqual(keptOf({ headers: { [LONGEST]: 1, [TOO_LONG]: 2, kept: TOO_LONG } }).headers, {
    [LONGEST]: 1,
    kept: TOO_LONG,
  });
  t.is(keptOf({ timestamp: 1_700_000_000 }).timestamp, 1_700_000_000);
  t.false('timestamp' in keptOf({ timestamp: 2 ** 63 }));
  t.deepEqual(keptOf({}).headers, {});
});

test('a time limit that is none, and cannot be written, stays one that is none', (t) => {
  const limit = (sent: unknown) => keptOf({ headers: { 'timeout-ms': sent } }).headers?.['timeout-ms'];
  for (const kept of [500, '500', 'soon', true, 0, -1]) t.is(limit(kept), kept, String(kept));
  for (const other of [{ ms: 1 }, [1], Buffer.from('1'), NaN, Infinity, -(2 ** 64), TOO_LONG])
    t.is(limit(other), 'not a number');
  for (const none of [undefined, null]) t.is(limit(none), undefined);
});

test('headers that copy a message are left out, and those with a similar name are kept', (t) => {
  const kept = { account: 1, 'cc-kept': 2, xcc: 3, bcc2: 4 };
  t.deepEqual(keptOf({ headers: { CC: 'q', cc: 'q', BCC: 'q', Bcc: 'q', ...kept } }).headers, kept);
});

test('plain values are kept, and numbers that amqplib cannot write are not', (t) => {
  const kept = { least: -(2 ** 63), large: 1e308, part: -1.5, zero: 0, yes: true, no: false, text: '' };
  const left = {
    low: -(2 ** 64),
    none: NaN,
    most: Infinity,
    table: {},
    list: [1],
    nothing: null,
    missing: undefined,
  };
  t.deepEqual(keptOf({ headers: { ...left, ...kept } }).headers, kept);
});

test('headers are kept up to 48 KiB, each with 8 bytes more than its name and its value, and the time limit first', (t) => {
  const limit = 48 * 1024;
  const names = (headers: Record<string, unknown>) => Object.keys(keptOf({ headers }).headers ?? {});
  const text = (bytes: number) => 'x'.repeat(bytes - 8 - 1);
  t.deepEqual(names({ a: text(limit) }), ['a']);
  t.deepEqual(names({ a: text(limit + 1) }), []);
  // A number counts 8 bytes.
  t.deepEqual(names({ a: 1, b: text(limit - 17) }), ['a', 'b']);
  t.deepEqual(names({ a: 1, b: text(limit - 16) }), ['a']);
  t.deepEqual(names({ a: '\uFFFD', b: text(limit - 12) }), ['a', 'b']);
  t.deepEqual(names({ a: '\uFFFD', b: text(limit - 11) }), ['a']);
  t.deepEqual(names({ '\uFFFD': true, b: text(limit - 19) }), ['\uFFFD', 'b']);
  t.deepEqual(names({ '\uFFFD': true, b: text(limit - 18) }), ['\uFFFD']);
  t.deepEqual(names({ a: 1, b: text(limit - 8), 'timeout-ms': 5 }), ['timeout-ms', 'a']);
});

// What of a message is left when it is published again, seen by who takes it next.
const broker = rabbitmq();
if (broker !== undefined) {
  /** @returns the message in the queue after a shutdown before it began */
  const requeued = async (
    t: ExecutionContext,
    options: Options.Publish,
    { body = BODY, heldMs = 0 } = {},
  ) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const clock = new ManualClock();
    const { queue, service } = await serveRequests(t, broker, [action], { concurrency: 1, clock });
    const caller = await RawCaller.open(t, broker, queue);
    caller.send({ action: 'act' });
    await eventually('one runs', () => begun() === 1);
    caller.publish(body, options);
    await eventually('the other one waits', () => service.held === 2);
    clock.advance(heldMs);
    const drained = service.drain(60_000);
    const message = await caller.take('queue');
    finishRun();
    t.true(await drained);
    return message;
  };

  /** @returns the message in the error queue */
  const deadLettered = async (t: ExecutionContext, options: Options.Publish) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    caller.publish('garbage', options);
    return caller.take('error queue');
  };

  /** What the service says about a message that it publishes again. */
  const OWN_HEADERS = new Set([
    'x-reason',
    'x-dead-lettered-at',
    'x-ends-at',
    'x-requeued',
    'x-caller',
    'x-caller-verified-by',
    'x-door',
  ]);

  for (const [what, again] of [
    ['requeued', requeued],
    ['dead-lettered', deadLettered],
  ] as const) {
    test(`a message that is ${what} keeps its properties and its headers`, async (t) => {
      const { properties, fields } = await again(t, { ...KEPT, headers: HEADERS });
      t.like(properties, KEPT);
      t.like(properties.headers, HEADERS);
      t.false(fields.redelivered);
    });

    test(`a message that is ${what} gets no properties that it did not have, but that of its publisher`, async (t) => {
      const { properties } = await again(t, {});
      const { headers, deliveryMode: _, userId: __, ...others } = properties;
      t.deepEqual(
        Object.entries(others).filter(([, value]) => value !== undefined),
        [],
      );
      t.deepEqual(
        Object.keys(headers ?? {}).filter((name) => !OWN_HEADERS.has(name)),
        [],
      );
    });

    test(`a message that is ${what} is persistent, even if it was not before`, async (t) => {
      t.is((await again(t, { persistent: false })).properties.deliveryMode, 2);
    });

    test(`a message that is ${what} is not copied again to where it was copied before`, async (t) => {
      const connection = await broker.open();
      t.teardown(async () => connection.close());
      const channel = await connection.createChannel();
      const { queue } = await channel.assertQueue('', { exclusive: true });
      const headers = { CC: [queue], cc: queue, Bcc: queue, 'cc-kept': 'too', kept: 'yes' };
      const { properties } = await again(t, { headers });
      t.is(properties.headers?.kept, 'yes');
      t.is(properties.headers?.['cc-kept'], 'too', 'it names no copy');
      for (const name of ['CC', 'cc', 'Bcc', 'BCC']) t.is(properties.headers?.[name], undefined, name);
      t.is((await channel.checkQueue(queue)).messageCount, 1);
    });

    test(`a message that is ${what} loses numbers that amqplib reads but cannot write`, async (t) => {
      const double = (value: number) => ({ '!': 'double', value });
      const written = { least: -(2 ** 63), large: 1e308, part: -1.5, tiny: 5e-324 };
      const unwritten = { low: -1e19, lowest: -Number.MAX_VALUE };
      const headers = Object.entries({ ...written, ...unwritten }).map(([name, value]) => [
        name,
        double(value),
      ]);
      const { properties } = await again(t, { headers: Object.fromEntries(headers) });
      t.like(properties.headers, written);
      for (const name of Object.keys(unwritten)) t.is(properties.headers?.[name], undefined, name);
    });

    test(`a message that is ${what} loses headers that are not plain values`, async (t) => {
      const headers = { table: { a: 1 }, list: [1, 2], nothing: null, kept: 'yes' };
      const { properties } = await again(t, { headers });
      t.is(properties.headers?.kept, 'yes');
      for (const name of ['table', 'list', 'nothing']) t.is(properties.headers?.[name], undefined, name);
    });
  }

  test('a requeued message keeps its expiration, a dead-lettered one does not', async (t) => {
    const expiration = '600000';
    t.is((await requeued(t, { expiration })).properties.expiration, expiration);
    t.is((await deadLettered(t, { expiration })).properties.expiration, undefined);
  });

  for (const timeout of [30_000, '30000'])
    test(`a requeued message has less time by as long as it was held, with a time limit as a ${typeof timeout}`, async (t) => {
      const times = { expiration: '40000', headers: { 'timeout-ms': timeout } };
      const { properties } = await requeued(t, times, { heldMs: 12_000 });
      t.is(properties.expiration, '28000');
      t.is(properties.headers?.['timeout-ms'], 18_000);
    });

  test('a requeued message gets no reason, a dead-lettered one gets its own', async (t) => {
    const headers = { 'x-reason': 'of before' };
    t.is((await requeued(t, { headers })).properties.headers?.['x-reason'], 'of before');
    t.regex(
      String((await deadLettered(t, { headers })).properties.headers?.['x-reason']),
      /^the encoding is not supported/,
    );
  });

  test('a requeued message keeps its bytes', async (t) => {
    const body = JSON.stringify({ request_body: { action: 'act', action_parameters: { text: 'ü\u0000☃' } } });
    t.deepEqual((await requeued(t, {}, { body })).content, Buffer.from(body));
  });

  test('headers are kept up to a size limit, the deadline before all others', async (t) => {
    const large = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`h${n}`, 'x'.repeat(1_000)]));
    const { properties } = await requeued(t, { headers: { ...large, 'timeout-ms': 60_000 } });
    const names = Object.keys(properties.headers ?? {});
    t.is(properties.headers?.['timeout-ms'], 60_000);
    t.true(names.length > 40 && names.length < 60, `${names.length} headers`);
  });

  test('a reply is persistent exactly when its request is', async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    for (const persistent of [true, false]) {
      const { message } = await caller.ask({ action: 'echo' }, { persistent });
      t.is(message.properties.deliveryMode === 2, persistent);
    }
  });

  test('a reply goes only to its caller, also when its request was copied', async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    const connection = await broker.open();
    const channel = await connection.createChannel();
    const { queue: copies } = await channel.assertQueue('', { exclusive: true });
    const { message } = await caller.ask(
      { action: 'echo' },
      { headers: { CC: [copies] }, expiration: '600000' },
    );
    t.is(message.properties.expiration, undefined);
    t.is((await channel.checkQueue(copies)).messageCount, 1, 'the request alone');
    await Promise.all([once(connection, 'close'), connection.close()]);
  });
}
