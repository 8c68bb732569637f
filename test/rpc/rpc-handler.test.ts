import { getMaxListeners, setMaxListeners } from 'node:events';
import type { Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import type { Call, Reply } from '../../src/core/call.js';
import { CallEventBus, type CallEvents } from '../../src/core/call-events.js';
import type { Action } from '../../src/plugin.js';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import type { Delivery } from '../../src/rpc/consumer.js';
import type { OutgoingReply, ReplyChannel, SendOutcome } from '../../src/rpc/reply-channel.js';
import { RpcHandler } from '../../src/rpc/rpc-handler.js';
import { doing, echo, held } from '../support/actions.js';
import { embeddedBroker, rabbitmq } from '../support/brokers.js';
import { checkingChannel } from '../support/checking-channel.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';
import { RawCaller, serveRequests } from '../support/requests.js';
import { warningsDuring } from '../support/warnings.js';

/** Serves actions over the embedded broker, with a further reply channel that gives this outcome. */
async function open(
  t: ExecutionContext,
  {
    actions = [echo],
    outcome,
    needsPlainReply = false,
  }: {
    actions?: readonly Action[];
    outcome?: SendOutcome;
    needsPlainReply?: boolean;
  } = {},
) {
  const broker = embeddedBroker();
  const sent: OutgoingReply[] = [];
  const channel: ReplyChannel = {
    needsPlainReply,
    reaches: ({ recordId }) => recordId !== undefined,
    send: async (reply) => {
      sent.push(reply);
      return outcome ?? 'sent';
    },
  };
  const served = await serveRequests(t, broker, actions, { channels: [channel] });
  const answered: CallEvents['answered'][] = [];
  served.events.on('answered', (event) => answered.push(event));
  const caller = await RawCaller.open(t, broker, served.queue);
  const publish = (envelope: object) => caller.publish(JSON.stringify(envelope));
  return { ...served, caller, publish, answered, sent };
}

const request_body = { action: 'echo', action_parameters: { number: 7 } };
const COMPLETED: Reply = { status: 'completed', body: { number: 7 } };

test('a call is answered with the result of its action when a reply channel has sent it', async (t) => {
  const { publish, answered } = await open(t);
  publish({ id: 13, request_body });
  const [event] = await eventually('the event', () => (answered.length > 0 ? answered : undefined));
  t.like(event, { reply: COMPLETED, dropped: false });
  t.is(event?.call.id, '13');
});

test('a call is answered with the reply that a channel sent instead', async (t) => {
  const outcome: Reply = { status: 'error', body: { errors: ['too large'], code: 'answer_too_large' } };
  const { publish, answered, logs } = await open(t, { outcome });
  publish({ id: 13, request_body });
  await eventually('the event', () => answered.length === 1);
  t.like(answered[0], { reply: outcome, dropped: false });
  t.like(logs.find(/^request failed$/)[0], { code: 'answer_too_large' });
});

test('a reply that no channel could send is dropped', async (t) => {
  const { publish, answered } = await open(t, { outcome: 'dropped' });
  publish({ id: 13, request_body });
  await eventually('the event', () => answered.length === 1);
  t.like(answered[0], { reply: COMPLETED, dropped: true });
});

test('a reply that one of two channels could send is not dropped', async (t) => {
  const { caller, answered } = await open(t, { outcome: 'dropped' });
  await caller.replyFor(caller.sendRaw(JSON.stringify({ id: 13, request_body })));
  await eventually('the event', () => answered.length === 1);
  t.like(answered[0], { reply: COMPLETED, dropped: false });
});

test('plain data stands beside the bytes of a reply only where a channel of its request needs it', async (t) => {
  for (const needsPlainReply of [true, false]) {
    const { publish, sent } = await open(t, { needsPlainReply });
    publish({ id: 13, request_body });
    await eventually('the reply', () => sent.length === 1);
    t.deepEqual(sent[0]?.plain, needsPlainReply ? COMPLETED : undefined);
  }
});

test('a reply that waits to be sent takes memory, so that a large request must wait for it', async (t) => {
  const broker = embeddedBroker();
  const mebibyte = 1024 * 1024;
  const sent: (() => void)[] = [];
  const slow: ReplyChannel = {
    needsPlainReply: false,
    reaches: () => true,
    send: async () => new Promise((resolve) => sent.push(() => resolve('sent'))),
  };
  const long = doing(async () => ({ text: 'x'.repeat(20 * mebibyte) }), { name: 'long' });
  const settings = {
    maxMessageBytes: mebibyte,
    memoryBudgetBytes: 32 * mebibyte,
    maxAnswerBytes: 32 * mebibyte,
    channels: [slow],
  };
  const { queue, service, logs } = await serveRequests(t, broker, [long, echo], settings);
  const caller = await RawCaller.open(t, broker, queue);
  caller.publish(JSON.stringify({ id: 1, request_body: { action: 'long' } }));
  await eventually('its reply is being sent', () => sent.length === 1);
  // Decoded, it may take 22 MiB.
  const padding = ' '.repeat(90_000);
  caller.publish(JSON.stringify({ id: 2, request_body }) + padding);
  const usedUp = () => logs.find(/^memory budget used up$/).length;
  await eventually('it waits, or is answered', () => usedUp() === 1 || sent.length === 2);
  t.is(sent.length, 1);
  sent[0]?.();
  await eventually('the other one is answered', () => sent.length === 2);
  sent[1]?.();
  await eventually('nothing is held', () => service.held === 0);
});

test('large requests are answered one in each turn of the event loop, so that other work gets its turns', async (t) => {
  const broker = embeddedBroker();
  const turns: number[] = [];
  let turn = 0;
  let next = setImmediate(function count() {
    turn++;
    next = setImmediate(count);
  });
  t.teardown(() => clearImmediate(next));
  const noting: ReplyChannel = {
    needsPlainReply: false,
    reaches: () => true,
    send: async () => {
      turns.push(turn);
      return 'sent';
    },
  };
  const { action, begun, finishRun } = held();
  const settings = { maxMessageBytes: 100_000, channels: [noting] };
  const { queue, service } = await serveRequests(t, broker, [action], settings);
  const caller = await RawCaller.open(t, broker, queue);
  const large = JSON.stringify({ id: 1, request_body: { action: 'act' } }) + ' '.repeat(65_536);
  for (let count = 0; count < 5; count++) caller.publish(large);
  await eventually('all run', () => begun() === 5);
  finishRun();
  await eventually('all are answered', () => service.held === 0);
  t.is(new Set(turns.splice(0)).size, 5);
  for (let count = 0; count < 5; count++) caller.publish(large.trim());
  await eventually('small ones run', () => begun() === 10);
  finishRun();
  await eventually('all are answered', () => service.held === 0);
  t.is(new Set(turns).size, 1, 'small ones need no turns of their own');
});

test('a reply that cannot be sent before the service stops leaves its call unanswered', async (t) => {
  const broker = embeddedBroker();
  const stuck: ReplyChannel = {
    needsPlainReply: false,
    reaches: () => true,
    send: async (_reply, _request, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  };
  const { queue, service, events, logs } = await serveRequests(t, broker, [echo], { channels: [stuck] });
  const unanswered: Call[] = [];
  events.on('unanswered', ({ call }) => unanswered.push(call));
  const settled: Call[] = [];
  events.on('settled', ({ call }) => settled.push(call));
  const caller = await RawCaller.open(t, broker, queue);
  caller.publish(JSON.stringify({ id: 13, request_body }));
  await eventually('the action has ended', () => settled.length === 1);
  t.false(await service.drain(0));
  await eventually('the event', () => unanswered.length === 1);
  t.is(logs.find(/^request unanswered$/).length, 1);
});

/** Serves `echo` with a reply channel for records that gives this result of its check. */
async function openChecked(
  t: ExecutionContext,
  check: NonNullable<ReplyChannel['check']>,
  clock?: ManualClock,
) {
  const broker = embeddedBroker();
  const sent: string[] = [];
  const ofRecords: ReplyChannel = {
    needsPlainReply: false,
    reaches: ({ recordId }) => recordId !== undefined,
    check,
    send: async ({ body }) => {
      sent.push(String(body));
      return 'sent';
    },
  };
  const served = await serveRequests(t, broker, [echo], { channels: [ofRecords], ...(clock && { clock }) });
  const received: Call[] = [];
  served.events.on('received', ({ call }) => received.push(call));
  const caller = await RawCaller.open(t, broker, served.queue);
  return { ...served, caller, sent, received };
}

test('a request that a reply channel refuses is not run: it is dead-lettered with the reason, and answered by the other channels', async (t) => {
  const { caller, sent, received, logs } = await openChecked(t, async () => ({
    refusal: 'its id is that of another request',
  }));
  const id = caller.sendRaw(JSON.stringify({ id: 77, request_body }));
  t.like((await caller.replyFor(id)).answer, {
    status: 'error',
    response_body: {
      code: 'invalid_request',
      errors: ['Invalid message: its id is that of another request'],
    },
  });
  const dead = await caller.take('error queue');
  t.is(dead.properties.headers?.['x-reason'], 'its id is that of another request');
  t.false('x-may-have-begun' in Object(dead.properties.headers));
  t.deepEqual(received, []);
  t.deepEqual(sent, []);
  t.like(logs.find(/^message dead-lettered$/)[0], { reason: 'its id is that of another request' });
});

for (const [sentAs, timeout] of [
  ['sent as a number', 20_000],
  ['sent as digits', '20000'],
] as const) {
  test(`a request waits while a reply channel cannot know whether it may run, and has less time then, ${sentAs}`, async (t) => {
    const clock = new ManualClock();
    let allow: (() => void) | undefined;
    const { caller, received } = await openChecked(
      t,
      async () => new Promise((resolve) => (allow = () => resolve({}))),
      clock,
    );
    caller.publish(JSON.stringify({ id: 5, request_body }), { headers: { 'timeout-ms': timeout } });
    await eventually('it is checked', () => allow !== undefined);
    t.deepEqual(received, []);
    clock.advance(15_000);
    allow?.();
    await eventually('it runs', () => received.length === 1);
    t.like(received[0], { timeoutMs: timeout, waitedMs: 15_000 });
  });

  test(`a request whose time passes while a reply channel cannot know whether it may run is not run, and gets a timeout, ${sentAs}`, async (t) => {
    const clock = new ManualClock();
    let checked = false;
    const { caller, sent, events, logs } = await openChecked(
      t,
      async (_request, signal) =>
        new Promise((_resolve, reject) => {
          checked = true;
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
      clock,
    );
    events.on('began', () => t.fail());
    caller.publish(JSON.stringify({ id: 5, request_body }), { headers: { 'timeout-ms': timeout } });
    await eventually('it is checked', () => checked);
    clock.advance(20_000);
    await eventually('the reply', () => sent.length === 1);
    t.like(JSON.parse(sent[0] ?? ''), { id: 5, status: 'error', response_body: { code: 'timeout' } });
    await eventually('it is logged', () => logs.find(/^request failed$/).length === 1);
    t.like(logs.find(/^request failed$/)[0], {
      request: '5',
      code: 'timeout',
      waited_ms: 20_000,
      took_ms: 0,
    });
  });
}

test('an invalid message is reported as dead-lettered, and does not become a call', async (t) => {
  const { caller, events, publish } = await open(t);
  const seen: string[] = [];
  events.on('received', ({ call }) => seen.push(call.id));
  events.on('deadLettered', ({ reason }) => seen.push(reason));
  publish({ id: 'no number', request_body });
  await caller.take('error queue');
  t.is(seen.length, 1);
  t.regex(seen[0] ?? '', /^its id is not the id of a record/);
});

test('a call carries the trace that its caller is in, and nothing else of the headers', async (t) => {
  const { caller, events } = await open(t);
  const contexts: unknown[] = [];
  events.on('received', ({ call }) => contexts.push(call.context));
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  for (const headers of [
    {},
    { traceparent, other: 'x' },
    { traceparent, tracestate: 'a=1' },
    { tracestate: 'a=1' },
  ])
    await caller.ask({ action: 'echo' }, { headers });
  t.deepEqual(contexts, [{}, { traceparent }, { traceparent, tracestate: 'a=1' }, {}]);
});

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('a caller is the user that RabbitMQ has verified, else anonymous', async (t) => {
    const callers: unknown[] = [];
    const action = doing(async ({ caller }) => ({ n: callers.push(caller) }));
    const { queue } = await serveRequests(t, rabbit, [action]);
    const caller = await RawCaller.open(t, rabbit, queue);
    await caller.ask({ action: 'act' });
    await caller.ask({ action: 'act' }, { userId: 'guest' });
    t.deepEqual(callers, [
      { name: 'anonymous', verifiedBy: undefined },
      { name: 'guest', verifiedBy: 'broker' },
    ]);
  });
}

test('a message that cannot even be dead-lettered is held until its connection is lost, and never acknowledged', async (t) => {
  const { log, find } = logLines();
  const handler = new RpcHandler({
    queue: 'q',
    codecs: new Codecs([jsonCodec]),
    runner: { run: async () => t.fail('it is no request'), pause: () => {}, resume: () => {} },
    events: new CallEventBus(log),
    channels: [],
    publish: async () => {
      throw new Error('it cannot be published');
    },
    maxMessageBytes: 1_000,
    memoryBudgetBytes: 1_000_000,
    maxReplyBytes: 1_000,
    clock: new ManualClock(),
    logFor: () => log,
  });
  const lost = new AbortController();
  const delivery: Partial<Delivery> = {
    content: Buffer.from('garbage'),
    properties: {} as Delivery['properties'],
    isReadable: true,
    redelivered: false,
    connection: { lost: lost.signal } as BrokerConnection,
    acknowledge: () => t.fail('it was not acknowledged'),
  };
  handler.receive(delivery as Delivery);
  await eventually('it is logged', () => find(/^message dead-lettering failed$/).length === 1);
  t.is(handler.held, 1);
  lost.abort();
  await handler.idle();
  t.is(handler.held, 0);
});

/** A handler without a broker, which gets the deliveries that the test makes. */
function withoutBroker(
  options: Partial<ConstructorParameters<typeof RpcHandler>[0]> & {
    channel?: Partial<ReplyChannel>;
  } = {},
) {
  const { log } = logLines();
  const runs: Call[] = [];
  const { channel = {}, ...others } = options;
  const handler = new RpcHandler({
    queue: 'q',
    codecs: new Codecs([jsonCodec]),
    runner: {
      run: async (call) => {
        runs.push(call);
        return COMPLETED;
      },
      pause: () => {},
      resume: () => {},
    },
    events: new CallEventBus(log),
    channels: [{ needsPlainReply: false, reaches: () => true, send: async () => 'sent', ...channel }],
    publish: async () => 'routed',
    maxMessageBytes: 1_000,
    memoryBudgetBytes: 1_000_000,
    maxReplyBytes: 1_000,
    clock: new ManualClock(),
    logFor: () => log,
    ...others,
  });
  let acknowledged = 0;
  const deliver = (content: string | Buffer, redelivered = false, more: Partial<Delivery> = {}) => {
    const delivery: Partial<Delivery> = {
      content: typeof content === 'string' ? Buffer.from(content) : content,
      properties: {} as Delivery['properties'],
      isReadable: true,
      redelivered,
      mayHaveBegun: redelivered,
      mayBeCopy: redelivered,
      returns: 0,
      sender: { name: undefined, verifiedBy: undefined, door: undefined },
      connection: { lost: new AbortController().signal } as BrokerConnection,
      acknowledge: () => acknowledged++,
      ...more,
    };
    handler.receive(delivery as Delivery);
  };
  return { handler, deliver, runs, acknowledged: () => acknowledged };
}

test('of several messages that wait for the same change, only the first one runs it', async (t) => {
  const refusals: ((check: { refusal?: string }) => void)[] = [];
  const sent: string[] = [];
  const { handler, deliver, runs, acknowledged } = withoutBroker({
    channel: {
      check: async () => new Promise((resolve) => refusals.push(resolve)),
      send: async ({ body }) => {
        sent.push(String(body));
        return 'sent';
      },
    },
  });
  const content = JSON.stringify({ id: 13, request_body });
  deliver(content);
  await eventually('the first one is checked', () => refusals.length === 1);
  deliver(content, true);
  deliver(content, true);
  refusals[0]?.({ refusal: 'its record cannot be read' });
  await eventually('the second one is checked', () => refusals.length === 2);
  await eventually('the first one is dead-lettered', () => acknowledged() === 1);
  refusals.forEach((accept) => accept({}));
  await handler.idle();
  t.is(refusals.length, 2);
  t.deepEqual(
    runs.map(({ delivery }) => delivery),
    ['first'],
  );
  t.is(sent.length, 2);
  t.is(acknowledged(), 3);
});

const defect = new Error('a defect');
const DEFECTS: [what: string, options: Parameters<typeof withoutBroker>[0]][] = [
  ['run', { runner: { run: () => Promise.reject(defect), pause: () => {}, resume: () => {} } }],
  [
    'be answered',
    {
      codecs: new Codecs([
        {
          ...jsonCodec,
          encode: () => {
            throw defect;
          },
        },
      ]),
    },
  ],
];
for (const [what, options] of DEFECTS) {
  test(`when a request cannot ${what} because of a defect, it is dead-lettered, and so is what waits for its reply`, async (t) => {
    const deadLetters: string[] = [];
    const { handler, deliver, acknowledged } = withoutBroker({
      ...options,
      publish: async ({ routingKey }) => {
        deadLetters.push(routingKey);
        return 'routed';
      },
    });
    const content = JSON.stringify({ id: 13, request_body });
    deliver(content);
    deliver(content, true);
    await eventually('both are acknowledged', () => acknowledged() === 2);
    await handler.idle();
    t.deepEqual(deadLetters, ['q_error', 'q_error']);
  });
}

test('an invalid message that waits to be dead-lettered keeps no memory but its bytes from others', async (t) => {
  let deadLetters = 0;
  const { handler, deliver, runs } = withoutBroker({
    memoryBudgetBytes: 1_000,
    publish: async () => {
      deadLetters++;
      return new Promise(() => {});
    },
  });
  deliver(`{${' '.repeat(500)}`);
  await eventually('it is being dead-lettered', () => deadLetters === 1);
  t.is(handler.freeMemory, 1_000 - 501);
  deliver(JSON.stringify({ request_body }));
  await eventually('the other one runs', () => runs.length === 1);
});

test('a message for a full queue is published again each second, until it has room', async (t) => {
  const clock = new ManualClock();
  const outcomes = ['nacked', 'nacked', 'routed'] as const;
  let published = 0;
  const { handler, deliver, acknowledged } = withoutBroker({
    clock,
    publish: async () => outcomes[published++] ?? 'routed',
  });
  deliver('no request');
  for (const times of [1, 2]) {
    await eventually('it waits', () => published === times && clock.pending === 1);
    t.true(handler.isBlocked);
    clock.advance(999);
    await new Promise(setImmediate);
    t.is(published, times);
    clock.advance(1);
  }
  await handler.idle();
  t.is(published, 3);
  t.is(acknowledged(), 1);
  t.false(handler.isBlocked);
});

test('a message that the broker has taken back twice is published anew, where it counts from the beginning', async (t) => {
  for (const returns of [1, 2, 3]) {
    const published: string[] = [];
    const clock = new ManualClock();
    const { handler, deliver, runs, acknowledged } = withoutBroker({
      clock,
      publish: async ({ routingKey }) => {
        published.push(routingKey);
        return 'routed';
      },
    });
    deliver(JSON.stringify({ request_body }), true, { mayHaveBegun: false, returns });
    // It may be what ends workers: it is read at a random time.
    clock.advance(250);
    await handler.idle();
    t.deepEqual(published, returns < 2 ? [] : ['q'], String(returns));
    t.is(runs.length, returns < 2 ? 1 : 0);
    t.is(acknowledged(), 1);
  }
});

test('a reply counts with its bytes until it is sent, and as plain data with twice as many besides', async (t) => {
  const free: number[] = [];
  let bytes = 0;
  for (const needsPlainReply of [false, true]) {
    let send = () => {};
    bytes = 0;
    const { handler, deliver } = withoutBroker({
      channel: {
        needsPlainReply,
        send: async ({ body }) => {
          bytes = body.length;
          return new Promise((resolve) => (send = () => resolve('sent')));
        },
      },
    });
    deliver(JSON.stringify({ request_body }));
    await eventually('it is being sent', () => bytes > 0);
    free.push(handler.freeMemory);
    send();
    await handler.idle();
    t.is(handler.freeMemory, 1_000_000);
  }
  const [encoded = 0, plain = 0] = free;
  t.is(encoded - plain, 2 * bytes);
});

test('a request takes memory for its bytes and for its contents, and none for a reply that nobody waits for', async (t) => {
  const events = new CallEventBus(logLines().log);
  const free: number[] = [];
  const note = () => free.push(handler.freeMemory);
  const run = async () => {
    note();
    return COMPLETED;
  };
  const runner = { run, pause: () => {}, resume: () => {} };
  const { handler, deliver } = withoutBroker({ runner, events, channels: [] });
  events.on('answered', note);
  const content = JSON.stringify({ request_body });
  deliver(content);
  await handler.idle();
  const [running = 0, answered] = free;
  t.true(1_000_000 - running > content.length);
  t.is(answered, running);
});

test('a result that nobody waits for is not measured', async (t) => {
  const events = new CallEventBus(logLines().log);
  const replies: Reply[] = [];
  events.on('answered', ({ reply }) => replies.push(reply));
  const large: Reply = { status: 'completed', body: { text: 'x'.repeat(2_000) } };
  const runner = { run: async () => large, pause: () => {}, resume: () => {} };
  const { handler, deliver } = withoutBroker({ runner, events, channels: [] });
  deliver(JSON.stringify({ request_body }));
  await handler.idle();
  t.deepEqual(replies, [large]);
});

test('plain data is made when one of several channels needs it', async (t) => {
  const sent: OutgoingReply[] = [];
  const channels = [false, true].map((needsPlainReply) => ({
    needsPlainReply,
    reaches: () => true,
    send: async (reply: OutgoingReply) => {
      sent.push(reply);
      return 'sent' as const;
    },
  }));
  const { handler, deliver } = withoutBroker({ channels });
  deliver(JSON.stringify({ request_body }));
  await handler.idle();
  t.deepEqual(
    sent.map(({ plain }) => plain),
    [COMPLETED, COMPLETED],
  );
});

test('an invalid message is answered in its own encoding, also without a content type', async (t) => {
  const erlang = new ErlangCodec();
  const sent: OutgoingReply[] = [];
  const { handler, deliver } = withoutBroker({
    codecs: new Codecs([jsonCodec, erlang]),
    channel: {
      send: async (reply) => {
        sent.push(reply);
        return 'sent';
      },
    },
  });
  deliver(erlang.encode({ request_body: [] }));
  await handler.idle();
  t.is(sent[0]?.contentType, erlang.contentType);
  t.notThrows(() => erlang.decode(sent[0]?.body ?? Buffer.alloc(0)));
});

test('large requests are decoded one in each turn of the event loop, and small ones together', async (t) => {
  for (const [bytes, turnsTaken] of [
    [65_537, 5],
    [200, 1],
  ] as const) {
    const turns: number[] = [];
    let turn = 0;
    let next = setImmediate(function count() {
      turn++;
      next = setImmediate(count);
    });
    const run = async () => {
      turns.push(turn);
      return COMPLETED;
    };
    const runner = { run, pause: () => {}, resume: () => {} };
    const { handler, deliver } = withoutBroker({ runner, maxMessageBytes: 1e6, memoryBudgetBytes: 1e9 });
    for (let count = 0; count < 5; count++) deliver(JSON.stringify({ request_body }).padEnd(bytes));
    await handler.idle();
    clearImmediate(next);
    t.is(turns.length, 5);
    t.is(new Set(turns).size, turnsTaken, String(bytes));
  }
});

test('any number of replies may wait for their channels without a warning of a leak', async (t) => {
  // The default of Node.
  setMaxListeners(10);
  let sending = 0;
  const { handler, deliver } = withoutBroker({
    channel: {
      send: async (_reply, _request, signal) => {
        sending++;
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve('dropped')));
      },
    },
  });
  const warnings = await warningsDuring(async () => {
    for (let count = 0; count < 20; count++) deliver(JSON.stringify({ request_body }));
    await eventually('all are being sent', () => sending === 20);
  });
  handler.stop();
  await handler.idle();
  t.deepEqual(warnings, []);
  t.is(getMaxListeners(new EventTarget()), 10, 'others are warned');
});

test('the messages of a connection are waited for without those of others', async (t) => {
  const sending = new Map<unknown, () => void>();
  const { handler, deliver } = withoutBroker({
    channel: {
      send: async (_reply, { delivery }) =>
        new Promise((resolve) => sending.set(delivery.connection, () => resolve('sent'))),
    },
  });
  const [left, other] = [1, 2].map(() => ({ lost: new AbortController().signal }) as BrokerConnection);
  for (const connection of [left, other]) deliver(JSON.stringify({ request_body }), false, { connection });
  await eventually('both are being sent', () => sending.size === 2);
  const idle = watched(handler.idle(left).then(() => true));
  await settle();
  t.is(idle(), undefined);
  sending.get(left)?.();
  await eventually('those of the first one are done', idle);
  t.is(handler.held, 1);
  sending.get(other)?.();
  await handler.idle();
});

/** Publishes messages, and confirms none before `confirm`. */
function slowPublisher() {
  const waiting: (() => void)[] = [];
  const published: { queue: string; headers: unknown }[] = [];
  return {
    publish: async (
      { routingKey }: { routingKey: string },
      _content: Buffer,
      { headers }: Options.Publish,
    ) => {
      published.push({ queue: routingKey, headers });
      return new Promise<'routed'>((resolve) => waiting.push(() => resolve('routed')));
    },
    published,
    confirm: () => waiting.splice(0).forEach((resolve) => resolve()),
  };
}

test('a message that waits for memory when the service stops is held until the broker has it again', async (t) => {
  const { publish, published, confirm } = slowPublisher();
  let end = () => {};
  const run = async () => new Promise<Reply>((resolve) => (end = () => resolve(COMPLETED)));
  const runner = { run, pause: () => {}, resume: () => {} };
  const { handler, deliver } = withoutBroker({ runner, publish, memoryBudgetBytes: 1_000 });
  const content = JSON.stringify({ request_body });
  deliver(content);
  deliver(content);
  const suspect = { deadline: undefined, lostWorkers: 4, mustRunAlone: false };
  deliver(content, false, { suspect, mayHaveBegun: true });
  handler.drain();
  await eventually('they are being published', () => published.length === 2);
  await settle();
  t.is(handler.held, 3);
  t.deepEqual(
    published.map(({ queue }) => queue),
    ['q', 'q_suspects'],
  );
  t.like(published[1]?.headers, { 'x-lost-workers': 4 });
  confirm();
  await eventually('only the first one is held', () => handler.held === 1);
  end();
  await handler.idle();
});

test('a request that is refused is dead-lettered only when the other channels have told its caller', async (t) => {
  const { publish, published, confirm } = slowPublisher();
  let send: (() => void) | undefined;
  const channel = { needsPlainReply: false, reaches: () => true };
  const { handler, deliver } = withoutBroker({
    publish,
    channels: [
      { ...channel, check: async () => ({ refusal: 'no record' }), send: async () => 'sent' },
      { ...channel, send: async () => new Promise((resolve) => (send = () => resolve('sent'))) },
    ],
  });
  deliver(JSON.stringify({ request_body }));
  await eventually('it is answered', () => send !== undefined);
  await settle();
  t.deepEqual(published, []);
  send?.();
  await eventually('it is dead-lettered', () => published.length === 1);
  confirm();
  await handler.idle();
});

test('a request that cost a process is answered, and held until it is dead-lettered; another error is only answered', async (t) => {
  for (const code of ['worker_lost', 'internal']) {
    const { publish, published, confirm } = slowPublisher();
    let sent = 0;
    const reply: Reply = { status: 'error', body: { errors: ['it ended', 'again'], code } };
    const { handler, deliver } = withoutBroker({
      publish,
      runner: { run: async () => reply, pause: () => {}, resume: () => {} },
      channel: {
        send: async () => {
          sent++;
          return 'sent';
        },
      },
    });
    deliver(JSON.stringify({ request_body }));
    await eventually('it is answered', () => sent === 1);
    await settle();
    const isLost = code === 'worker_lost';
    t.is(handler.held, isLost ? 1 : 0);
    t.is(published.length, isLost ? 1 : 0);
    if (isLost) t.like(published[0], { queue: 'q_error', headers: { 'x-reason': 'it ended again' } });
    confirm();
    await handler.idle();
  }
});

const NAMED = { properties: { messageId: 'm' } as Delivery['properties'] };
const CONTENT = JSON.stringify({ request_body });

test('of a reply only its own bytes are remembered, and these are sent again', async (t) => {
  const bodies: Buffer[] = [];
  const { handler, deliver, runs } = withoutBroker({
    channel: {
      send: async ({ body }) => {
        bodies.push(body);
        return 'sent';
      },
    },
  });
  for (const redelivered of [false, true]) {
    deliver(CONTENT, redelivered, NAMED);
    await handler.idle();
    // Node.js cuts small buffers out of larger ones: it uses the next one from now on.
    for (let n = 0; n < 4; n++) Buffer.allocUnsafe(Buffer.poolSize / 2 - 1);
  }
  const [first, again] = bodies;
  t.is(runs.length, 1);
  t.deepEqual(again, first);
  t.true(again?.buffer !== first?.buffer, 'the buffer that the first was cut out of was kept in memory');
});

test('the reply to an earlier request says so in a header of its message, also when it is remembered', async (t) => {
  const headers: unknown[] = [];
  let replyOf: string | undefined = 'r0';
  const { handler, deliver } = withoutBroker({
    runner: { run: async () => ({ ...COMPLETED, replyOf }), pause: () => {}, resume: () => {} },
    channel: {
      send: async (reply) => {
        headers.push(reply.headers);
        return 'sent';
      },
    },
  });
  for (const redelivered of [false, true]) {
    deliver(CONTENT, redelivered, NAMED);
    await handler.idle();
  }
  replyOf = undefined;
  deliver(CONTENT);
  await handler.idle();
  const replayed = { 'idempotency-replayed': true };
  t.deepEqual(headers, [replayed, replayed, undefined]);
});

test('remembered replies take at most a quarter of the memory budget', async (t) => {
  // A single one takes at most a quarter of that.
  for (const [bytes, expectedRuns] of [
    [50_000, 1],
    [70_000, 2],
  ] as const) {
    let runs = 0;
    const run = async (): Promise<Reply> => {
      runs++;
      return { status: 'completed', body: { text: 'x'.repeat(bytes) } };
    };
    const runner = { run, pause: () => {}, resume: () => {} };
    const { handler, deliver } = withoutBroker({ runner, maxReplyBytes: 1_000_000 });
    for (let count = 0; count < 2; count++) {
      deliver(CONTENT, false, { ...NAMED, mayBeCopy: true });
      await handler.idle();
    }
    t.is(runs, expectedRuns, String(bytes));
  }
});

const suspectOf = (lostWorkers: number) => ({
  suspect: { deadline: undefined, lostWorkers, mustRunAlone: false },
  mayHaveBegun: true,
  mayBeCopy: true,
});

for (const { title, first, again, redelivered, runsAs, movedWith } of [
  {
    title: 'comes back to the requests',
    first: {},
    again: {},
    redelivered: true,
    runsAs: 'first',
  },
  {
    title: 'comes back to the same place among the suspects',
    first: suspectOf(4),
    again: suspectOf(4),
    redelivered: true,
    runsAs: 'repeated',
  },
  {
    title: 'is put among the suspects by a worker that may not have seen its release',
    first: {},
    again: suspectOf(0),
    redelivered: false,
    runsAs: 'first',
  },
  {
    title: 'is lost by another worker, which had it from another place',
    first: suspectOf(4),
    again: suspectOf(5),
    redelivered: true,
    movedWith: 6,
  },
] satisfies {
  title: string;
  first: Partial<Delivery>;
  again: Partial<Delivery>;
  redelivered: boolean;
  runsAs?: Call['delivery'];
  movedWith?: number;
}[])
  test(`a request that was released before it began, and then ${title}, ${movedWith === undefined ? `runs as ${runsAs}` : 'is a suspect again'}`, async (t) => {
    const { channel, checks, accept } = checkingChannel();
    const moved: unknown[] = [];
    const { handler, deliver, runs } = withoutBroker({
      channels: [channel],
      publish: async (_to, _content, { headers }) => {
        moved.push(headers?.['x-lost-workers']);
        return 'routed';
      },
    });
    const lost = new AbortController();
    deliver(CONTENT, false, { ...NAMED, ...first, connection: { lost: lost.signal } as BrokerConnection });
    await eventually('it is checked', () => checks() === 1);
    lost.abort(new Error('the connection is lost'));
    await handler.idle();
    t.is(runs.length, 0);
    accept();
    deliver(CONTENT, redelivered, { ...NAMED, ...again });
    await handler.idle();
    t.deepEqual(
      runs.map(({ delivery }) => delivery),
      runsAs === undefined ? [] : [runsAs],
    );
    t.deepEqual(moved, movedWith === undefined ? [] : [movedWith]);
  });

test('a request that becomes a suspect says that no worker was lost with it among them yet', async (t) => {
  for (const [redelivered, mustRunAlone] of [
    [true, false],
    [false, true],
  ] as const) {
    const { publish, published, confirm } = slowPublisher();
    const run = async () => ({ status: 'released', ...(mustRunAlone && { mustRunAlone }) }) as const;
    const runner = { run, pause: () => {}, resume: () => {} };
    const { handler, deliver } = withoutBroker({ runner, publish });
    deliver(CONTENT, redelivered);
    await eventually('it is being moved', () => published.length === 1);
    t.is(published[0]?.queue, 'q_suspects');
    t.like(published[0]?.headers, { 'x-lost-workers': 0, 'x-alone': mustRunAlone });
    confirm();
    await handler.idle();
  }
});
