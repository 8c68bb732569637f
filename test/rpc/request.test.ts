import test from 'ava';
import { ANONYMOUS, type Caller } from '../../src/api/caller.js';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { jsonRequestCodec } from '../../src/rpc/codec/json.js';
import type { Delivery } from '../../src/rpc/consumer.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import { callOf, RequestReader } from '../../src/rpc/request.js';
import type { Sender } from '../../src/rpc/sender.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

const BODY = { request_body: { action: 'act', etcd_token: 'token', action_parameters: { text: 'a' } } };
const FIVE_MINUTES = 300_000;

interface Given {
  body?: object;
  properties?: Record<string, unknown>;
  delivery?: Partial<Delivery>;
}

/** Reads messages of at most 1,000 bytes from the queue `q`. */
function reading({ channels = [] }: { channels?: readonly ReplyChannel[] } = {}) {
  const clock = new ManualClock();
  const { log } = logLines();
  const reader = new RequestReader({
    queue: 'q',
    codecs: new Codecs([jsonRequestCodec, new ErlangCodec()]),
    channels,
    maxMessageBytes: 1_000,
    clock,
    logFor: () => log,
  });
  const lost = new AbortController().signal;
  const deliveryOf = ({ body = BODY, properties = {}, delivery = {} }: Given = {}) =>
    ({
      content: Buffer.from(JSON.stringify(body)),
      properties,
      isReadable: true,
      mayHaveBegun: false,
      mayBeCopy: false,
      sender: SENDER,
      attempt: 1,
      suspect: undefined,
      connection: { lost },
      ...delivery,
    }) as unknown as Delivery;
  const read = (given: Given = {}) => {
    const delivery = deliveryOf(given);
    return reader.read(delivery, reader.codecOf(delivery), clock.now());
  };
  return { reader, clock, lost, deliveryOf, read };
}

const CHANNEL: ReplyChannel = { needsPlainReply: false, reaches: () => true, send: async () => 'sent' };
const FIRST = { mayHaveBegun: false, mustRunAlone: false, waitedMs: 0, vouchedFor: undefined };
const SENDER = { name: 'ops', verifiedBy: 'broker', door: undefined } as const;
const NOBODY = { name: undefined, verifiedBy: undefined, door: undefined };

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

test('a request is named by its record, or else by its message id, and a name that is empty is none', (t) => {
  const { read } = reading();
  t.is(read({ body: { id: 13, ...BODY }, properties: { messageId: 'm' } }).id, '13');
  t.is(read({ properties: { messageId: 'm' } }).id, 'm');
  t.is(read({ properties: { messageId: 'm'.repeat(200) } }).id, 'm'.repeat(128));
  for (const properties of [{}, { messageId: '' }]) {
    const [one, other] = [read({ properties }), read({ properties })];
    t.not(one.id, other.id);
    t.is(one.key, undefined, 'it cannot be known again');
  }
});

test('a request has the id in the log that its caller gave it, unless that is malformed or it has a record', (t) => {
  const { read } = reading();
  const named = (given: unknown, body: object = BODY) =>
    read({ body, properties: { messageId: 'm', replyTo: 'r', headers: { 'x-request-id': given } } });
  for (const id of ['x', 'Root=1-67891233-abcdef012345', 'a'.repeat(128)]) t.is(named(id).id, id);
  for (const malformed of ['', 'a b', 'a\nb', 'é', 'a'.repeat(129), 7, ['x'], null])
    t.is(named(malformed).id, 'm', String(malformed));
  t.is(named('x', { id: 13, ...BODY }).id, '13');
  t.is(named('x').key, named('y').key, 'it is known again by its message id');
  const unnamed = { headers: { 'x-request-id': 'x' } };
  t.is(read({ properties: unnamed }).id, 'x');
  t.is(read({ properties: unnamed }).key, undefined, 'that id is not its own');
});

test('a message is known again by its queue, caller, name, reply address and body', (t) => {
  const { read } = reading();
  const same: Given = { properties: { messageId: 'm', replyTo: 'r' } };
  const { key } = read(same);
  t.regex(key ?? '', /^[\w-]{43}$/);
  t.is(read(same).key, key);
  const others: Given[] = [
    { properties: { messageId: 'other', replyTo: 'r' } },
    { properties: { messageId: 'm', replyTo: 'other' } },
    { properties: { messageId: 'm' } },
    { ...same, body: { request_body: { action: 'other' } } },
    { ...same, delivery: { sender: { ...SENDER, name: 'other' } } },
    { ...same, delivery: { sender: NOBODY } },
  ];
  const keys = others.map((given) => read(given).key);
  t.is(new Set([key, ...keys]).size, others.length + 1);
});

test('the time of a first delivery is the time limit of its caller', (t) => {
  const { read, clock } = reading();
  for (const [sent, limit] of [
    [undefined, FIVE_MINUTES],
    [20_000, 20_000],
    ['20000', 20_000],
    ['soon', 0],
  ] as const) {
    const { until, waitedMs, timeoutMs } = read({
      properties: { headers: { 'timeout-ms': sent }, timestamp: 1 },
    });
    t.deepEqual([until - clock.now(), waitedMs, timeoutMs], [limit, 0, sent], String(sent));
  }
});

test('a request that was delivered before has what is left of the time limit since it was sent', (t) => {
  const { read, clock } = reading();
  const sentAgo = (ms: number) => Math.round((clock.wallTime() - ms) / 1_000);
  const delivery = { mayHaveBegun: true };
  const properties = { headers: { 'timeout-ms': 20_000 }, timestamp: sentAgo(5_000) };
  const { until, waitedMs } = read({ properties, delivery });
  t.deepEqual([until - clock.now(), waitedMs], [15_000, 5_000]);
  const late = read({ properties: { ...properties, timestamp: sentAgo(60_000) }, delivery });
  t.deepEqual([late.until - clock.now(), late.waitedMs], [0, 20_000]);
  const early = read({ properties: { ...properties, timestamp: sentAgo(-60_000) }, delivery });
  t.deepEqual([early.until - clock.now(), early.waitedMs], [20_000, 0], 'the clocks differ');
  const none = read({ properties: { headers: { 'timeout-ms': 'soon' } }, delivery });
  t.deepEqual([none.until - clock.now(), none.waitedMs], [0, 0]);
});

test('a message above the limit, also when it is inflated, and one that asks for its reply as a request are not decoded', (t) => {
  const { reader, deliveryOf } = reading();
  const refused = (given: Given) => t.throws(() => reader.codecOf(deliveryOf(given))).message;
  t.is(
    refused({ delivery: { content: Buffer.alloc(1_001, '{') } }),
    'it has 1001 bytes, and MAX_MESSAGE_BYTES is 1000',
  );
  t.notThrows(() => reader.codecOf(deliveryOf({ delivery: { content: Buffer.alloc(1_000, '{') } })));
  const inflated = (bytes: number) => ({
    delivery: { content: Buffer.from([131, 80, 0, 0, 3, bytes - 768]) },
  });
  t.notThrows(() => reader.codecOf(deliveryOf(inflated(1_000))));
  t.is(refused(inflated(1_001)), 'it has 1001 bytes when it is decompressed, and MAX_MESSAGE_BYTES is 1000');
  for (const replyTo of ['q', 'q_error', 'q_suspects'])
    t.is(refused({ properties: { replyTo } }), 'its reply_to names a queue of this service');
  t.notThrows(() => reader.codecOf(deliveryOf({ properties: { replyTo: 'other' } })));
});

test('a message whose headers cannot be read is invalid, and its envelope is told', (t) => {
  const { read } = reading();
  const error = t.throws(() => read({ body: { id: 13, ...BODY }, delivery: { isReadable: false } }));
  t.like(error, { message: 'its headers cannot be read', envelope: { recordId: 13 } });
});

test('a request is large above 64 KiB', (t) => {
  const { reader, clock, deliveryOf } = reading();
  const sizes = [65_536, 65_537].map((bytes) => {
    const text = JSON.stringify(BODY);
    const content = Buffer.from(text + ' '.repeat(bytes - text.length));
    return reader.read(deliveryOf({ delivery: { content } }), jsonRequestCodec, clock.now()).isLarge;
  });
  t.deepEqual(sizes, [false, true]);
});

test('a request that an operator has sent again says how often', (t) => {
  const { read } = reading();
  for (const [sent, replays] of [
    [3, 3],
    ['3', undefined],
    [-1, undefined],
    [undefined, undefined],
  ] as const)
    t.is(callOf(read({ properties: { headers: { 'x-replayed': sent } } }), FIRST).replays, replays);
});

test('a call has what its message says', (t) => {
  const { read, lost } = reading({ channels: [CHANNEL, { ...CHANNEL, reaches: () => false }] });
  const headers = { 'timeout-ms': 7_000, traceparent: TRACEPARENT, tracestate: 'a=1', other: 'x' };
  const request = read({ properties: { messageId: 'm', headers } });
  t.deepEqual(callOf(request, { ...FIRST, waitedMs: 3 }), {
    id: 'm',
    key: request.key,
    idempotencyKey: undefined,
    action: 'act',
    target: 'token',
    parameters: { text: 'a' },
    timeoutMs: 7_000,
    priority: undefined,
    waitedMs: 3,
    malformed: undefined,
    caller: { name: 'ops', verifiedBy: 'broker' },
    door: 'amqp',
    encoding: 'json',
    attempt: 1,
    replays: undefined,
    context: { traceparent: TRACEPARENT, tracestate: 'a=1' },
    traceId: undefined,
    delivery: 'first',
    mayBeCopy: false,
    mustRunAlone: false,
    wantsReply: true,
    wantsParts: false,
    signal: lost,
  });
});

test('a call has the name that its caller has given the change, by whatever message, and a header that names none refuses it', (t) => {
  const { read } = reading();
  const callWith = (sent: unknown, given: Given = {}) =>
    callOf(read({ ...given, properties: { messageId: 'm', headers: { 'idempotency-key': sent } } }), FIRST);
  const { idempotencyKey, malformed } = callWith('k');
  t.is(malformed, undefined);
  t.is(typeof idempotencyKey, 'string');
  t.not(idempotencyKey, 'k');
  t.is(callWith('"k"', { body: { id: 13, request_body: {} } }).idempotencyKey, idempotencyKey);
  t.not(callWith('other').idempotencyKey, idempotencyKey);
  t.not(callWith('k', { delivery: { sender: NOBODY } }).idempotencyKey, idempotencyKey);
  const inCapitals = { messageId: 'm', headers: { 'Idempotency-Key': 'k' } };
  t.is(callOf(read({ properties: inCapitals }), FIRST).idempotencyKey, idempotencyKey);
  for (const none of [undefined, null]) t.is(callWith(none).idempotencyKey, undefined);
  for (const wrong of ['', 'k'.repeat(129), 'clé', 'a, b', 7, true, { k: 1 }]) {
    const call = callWith(wrong);
    t.is(call.idempotencyKey, undefined);
    t.like(call.malformed, { field: 'idempotency-key' });
  }
});

test('who asks is whom the broker or the gateway names, or else whom a reply channel vouches for', (t) => {
  const { read } = reading();
  const manager = { name: 'manager', verifiedBy: 'manager' } as const;
  const callerOf = (sender: Sender, vouchedFor: Caller | undefined) =>
    callOf(read({ delivery: { sender } }), { ...FIRST, vouchedFor }).caller;
  t.deepEqual(callerOf(SENDER, manager), { name: 'ops', verifiedBy: 'broker' });
  t.deepEqual(callerOf(NOBODY, manager), manager);
  t.is(callerOf(NOBODY, undefined), ANONYMOUS);
});

test('the door of a call is the one that the gateway names, or else whether a channel for records reaches its caller', (t) => {
  const { read } = reading();
  const doorOf = (given: Given) => callOf(read(given), FIRST).door;
  t.is(doorOf({}), 'amqp');
  t.is(doorOf({ body: { id: 13, ...BODY } }), 'amqp', 'there is no Manager');
  const records = reading({ channels: [{ ...CHANNEL, check: async () => ({}) }] });
  t.is(callOf(records.read({ body: { id: 13, ...BODY } }), FIRST).door, 'manager');
  t.is(doorOf({ delivery: { sender: { ...SENDER, door: 'http' } } }), 'http');
});

test('a call tells who is not known, that nobody waits, and what may have begun', (t) => {
  const { read } = reading();
  const call = callOf(read({ delivery: { sender: NOBODY, mayBeCopy: true } }), {
    ...FIRST,
    mayHaveBegun: true,
    mustRunAlone: true,
    waitedMs: 0,
  });
  t.like(call, { caller: { name: 'anonymous' }, delivery: 'repeated', mayBeCopy: true });
  t.like(call, { mustRunAlone: true, wantsReply: false, context: {} });
  const trace = read({ properties: { headers: { traceparent: TRACEPARENT, tracestate: 7 } } });
  t.deepEqual(callOf(trace, FIRST).context, { traceparent: TRACEPARENT });
  const invalid = read({ properties: { headers: { traceparent: '00-1-1-00', tracestate: 'a=1' } } });
  t.deepEqual(callOf(invalid, FIRST).context, {});
  const none = read({ properties: { headers: { tracestate: 'a=1' } } });
  t.deepEqual(callOf(none, FIRST).context, {});
});
