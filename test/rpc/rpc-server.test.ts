import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import type { ChannelModel } from 'amqplib';
import test from 'ava';
import type { SendOutcome } from '../../src/rpc/reply-channel.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { ActionError } from '../../src/plugin.js';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import { RpcServer } from '../../src/rpc/rpc-server.js';
import { doing, echo, held } from '../support/actions.js';
import { brokers, embeddedBroker, rabbitmq, type TestBroker, withChannels } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';
import { loseWorker, makeQueue, RawCaller, serveRequests } from '../support/requests.js';

test('the service is closed only when its connection is', async (t) => {
  const broker = embeddedBroker();
  let letClose = () => {};
  const mayClose = new Promise<void>((resolve) => (letClose = resolve));
  const connect: TestBroker['connect'] = async (url, options) => {
    const connection = await broker.connect(url, options);
    const close = connection.close.bind(connection);
    connection.close = async () => mayClose.then(close);
    return connection;
  };
  const { service } = await serveRequests(t, { ...broker, connect }, [echo], { clock: new ManualClock() });
  let closed = false;
  const closing = service.close().then(() => (closed = true));
  await new Promise(setImmediate);
  t.false(closed);
  letClose();
  t.true(await closing);
});

/** The same broker, and how many messages its consumers were made for: those of the requests, and of the suspects. */
function notingPrefetch(broker: TestBroker) {
  const [requests, suspects]: number[][] = [[], []];
  const connect = withChannels(broker.connect, (channel) => {
    const prefetch = channel.prefetch.bind(channel);
    const consume = channel.consume.bind(channel);
    let next = 0;
    channel.prefetch = async (count, ...given) => {
      next = count;
      return prefetch(count, ...given);
    };
    channel.consume = async (queue, ...given) => {
      (queue.endsWith('_suspects') ? suspects : requests)?.push(next);
      return consume(queue, ...given);
    };
  });
  return { noting: { ...broker, connect }, requests, suspects };
}

test('requests that wait for clusters that do not respond make room for others', async (t) => {
  const broker = embeddedBroker();
  const { noting, requests, suspects } = notingPrefetch(broker);
  const { action, begun, finishRun } = held();
  const { queue, events, service } = await serveRequests(t, noting, [action], { prefetch: 2 });
  t.deepEqual([requests, suspects], [[2], [2]]);
  const caller = await RawCaller.open(t, broker, queue);
  for (let n = 0; n < 2; n++) caller.send({ action: 'act' });
  await eventually('they run', () => begun() === 2);
  events.emit('withoutResponse', { calls: 3, at: 0 });
  await eventually('there is room', () => requests?.length === 2);
  t.deepEqual(requests, [2, 3]);
  finishRun();
  await eventually('nothing is held', () => service.held === 0);
});

test('requests whose replies are not confirmed for long make room for others', async (t) => {
  const broker = embeddedBroker();
  const link = faultyLink(broker);
  const { noting, requests } = notingPrefetch({ ...broker, connect: link.connect });
  const clock = new ManualClock();
  const { queue, service } = await serveRequests(t, noting, [echo], { prefetch: 2, clock });
  const caller = await RawCaller.open(t, broker, queue);
  link.withholdConfirms();
  for (let n = 0; n < 2; n++) caller.send({ action: 'echo' }, { headers: { 'timeout-ms': 60_000 } });
  await eventually('they are answered', () => service.held === 2 && link.counts.withheld > 0);
  t.deepEqual(requests, [2]);
  clock.advance(1_000);
  await eventually('there is room', () => requests !== undefined && requests.length > 1);
  t.is(service.held, 2);
  clock.advance(63_000);
  await eventually('their callers wait no more', () => service.held === 0);
});

test('at shutdown, what has not begun is requeued only when the broker delivers no more, or after half a second', async (t) => {
  const broker = embeddedBroker();
  for (const responds of [true, false]) {
    const cancels: (() => void)[] = [];
    const connect = withChannels(broker.connect, (channel) => {
      const cancel = channel.cancel.bind(channel);
      channel.cancel = async (tag) => {
        const cancelled = await cancel(tag);
        await new Promise<void>((resolve) => cancels.push(resolve));
        return cancelled;
      };
    });
    const clock = new ManualClock();
    const { action, begun, finishRun } = held();
    const { queue, service } = await serveRequests(t, { ...broker, connect }, [action], {
      concurrency: 1,
      clock,
    });
    const caller = await RawCaller.open(t, broker, queue);
    for (let n = 0; n < 2; n++) caller.send({ action: 'act' });
    await eventually('both are held', () => service.held === 2 && begun() === 1);
    const drained = service.drain(60_000);
    await eventually('the consumers are cancelled', () => cancels.length === 2);
    const passes = async (ms: number) => {
      clock.advance(ms);
      for (let turn = 0; turn < 10; turn++) await settle();
    };
    await passes(499);
    t.is(service.held, 2);
    if (responds) cancels.forEach((resolve) => resolve());
    else await passes(1);
    await eventually('the second one is requeued', () => service.held === 1);
    cancels.forEach((resolve) => resolve());
    finishRun();
    t.true(await drained);
  }
});

test('at shutdown, replies have 5 s to be confirmed, and at most a second more than the grace time', async (t) => {
  const broker = embeddedBroker();
  for (const [graceMs, waitMs] of [
    [0, 1_000],
    [2_000, 3_000],
    [60_000, 5_000],
  ] as const) {
    const limits: number[] = [];
    class NotingClock extends ManualClock {
      override after(ms: number, ring: () => void): () => void {
        limits.push(ms);
        return super.after(ms, ring);
      }
    }
    const clock = new NotingClock();
    let sending = false;
    const stuck = {
      needsPlainReply: false,
      reaches: () => true,
      send: async (_reply: unknown, _request: unknown, signal: AbortSignal) => {
        sending = true;
        return new Promise<SendOutcome>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason)),
        );
      },
    };
    const { queue, service } = await serveRequests(t, broker, [echo], { channels: [stuck], clock });
    const caller = await RawCaller.open(t, broker, queue);
    caller.publish(JSON.stringify({ request_body: { action: 'echo' } }));
    await eventually('its reply is being sent', () => sending);
    limits.splice(0);
    const drained = service.drain(graceMs);
    const isDrained = watched(drained);
    await eventually('it waits for the reply', () => limits.length === 2);
    clock.advance(waitMs - 1);
    await settle();
    t.is(isDrained(), undefined, String(graceMs));
    clock.advance(1);
    t.false(await drained);
  }
});

test('running requests get the grace time, and the service has drained only when they have ended', async (t) => {
  const { log } = logLines();
  for (const graceMs of [0, 2_000]) {
    const given: number[] = [];
    let end = () => {};
    const drain = async (ms: number) => {
      given.push(ms);
      await new Promise<void>((resolve) => (end = resolve));
    };
    const service = new RpcServer({
      connection: {
        connect: async () => Promise.reject(new Error('unreachable')),
        brokers: async () => [],
        name: 'test',
        clock: new ManualClock(),
        log,
      },
      queue: 'q',
      prefetch: 1,
      runner: { run: async () => t.fail(), drain, pause: () => {}, resume: () => {} },
      events: new CallEventBus(log),
      codecs: new Codecs([jsonCodec]),
      maxMessageBytes: 1_000,
      memoryBudgetBytes: 1_000_000,
      maxReplyBytes: 1_000,
      logFor: () => log,
    });
    const drained = service.drain(graceMs);
    const isDrained = watched(drained);
    await settle();
    t.deepEqual(given, [graceMs]);
    t.is(isDrained(), undefined);
    end();
    t.true(await drained);
  }
});

test('while the broker refuses replies, the service is not ready, and says why', async (t) => {
  const broker = embeddedBroker();
  const link = faultyLink(broker);
  link.withholdConfirms();
  const clock = new ManualClock();
  const { service } = await serveRequests(t, { ...broker, connect: link.connect }, [echo], {
    clock,
    waits: false,
  });
  await eventually('it has tried', () => link.counts.withheld > 0);
  link.passConfirms();
  link.refuseWithheld();
  const [reason] = await eventually('it says so', () => {
    const reasons = service.notReady();
    return reasons.join().includes('refuses') ? reasons : undefined;
  });
  t.regex(reason ?? '', /^the broker refuses replies: .*ACCESS_REFUSED/);
  await eventually('it is ready', () => {
    clock.leap();
    return service.notReady().length === 0;
  });
});

// How a message is processed: the same over every broker.
for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(
    over(
      "a reply goes to the request's reply_to, with its correlation_id and in its encoding; it says what and when it is",
    ),
    async (t) => {
      const clock = new ManualClock();
      const { queue } = await serveRequests(t, broker, [echo], { clock });
      const caller = await RawCaller.open(t, broker, queue);
      const { message, answer } = await caller.ask({ action: 'echo', action_parameters: { number: 7 } });
      t.is(answer.status, 'completed');
      t.deepEqual(answer.response_body, { number: 7 });
      t.deepEqual(answer.request_body, { action: 'echo', action_parameters: { number: 7 } });
      t.is(answer.id, null);
      t.like(message.properties, {
        contentType: 'application/json',
        type: 'reply',
        appId: 'fleet-manager',
        timestamp: Math.floor(clock.wallTime() / 1_000),
      });
    },
  );

  test(over('a content type decides over the first byte, and parameters of it are ignored'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    for (const contentType of ['application/json; charset=utf-8', 'application/octet-stream', undefined]) {
      const { answer } = await caller.ask({ action: 'echo' }, { contentType });
      t.is(answer.status, 'completed', String(contentType));
    }
  });

  test(over('problems of a request are reported by code and field'), async (t) => {
    const onCluster = doing(async () => ({}), { name: 'on_cluster', target: 'cluster' });
    const { queue } = await serveRequests(t, broker, [echo, onCluster]);
    const caller = await RawCaller.open(t, broker, queue);
    const cases: [request: unknown, code: string, field: string | undefined][] = [
      [{ action: 'no_such' }, 'unknown_action', undefined],
      [{ action: '__proto__' }, 'unknown_action', undefined],
      [{}, 'invalid_request', 'request_body.action'],
      [{ action: 5 }, 'invalid_request', 'request_body.action'],
      [
        { action: 'echo', action_parameters: { number: 'x' } },
        'invalid_parameters',
        'action_parameters.number',
      ],
      [{ action: 'echo', action_parameters: { nmber: 1 } }, 'invalid_parameters', 'action_parameters.nmber'],
      [{ action: 'echo', action_parameters: [] }, 'invalid_parameters', 'action_parameters'],
      [{ action: 'echo', action_parameters: 'x' }, 'invalid_parameters', 'action_parameters'],
      [{ action: 'echo', etcd_token: 'abc' }, 'invalid_request', 'request_body.etcd_token'],
      [{ action: 'echo', parameters: { number: 1 } }, 'invalid_request', 'request_body.parameters'],
      [{ action: 'on_cluster' }, 'invalid_request', 'request_body.etcd_token'],
      [{ action: 'on_cluster', etcd_token: '' }, 'invalid_request', 'request_body.etcd_token'],
      [{ action: 'on_cluster', etcd_token: '../x' }, 'invalid_request', 'request_body.etcd_token'],
      [{ action: 'on_cluster', etcd_token: 'x'.repeat(129) }, 'invalid_request', 'request_body.etcd_token'],
      [{ action: 'on_cluster', etcd_token: ['x'] }, 'invalid_request', 'request_body.etcd_token'],
    ];
    for (const [request, code, field] of cases) {
      const { answer } = await caller.ask(request);
      const { response_body: body } = answer;
      t.is(answer.status, 'error');
      t.is(body.code, code, JSON.stringify(request));
      t.is(body.errors?.length, 1);
      if (field !== undefined) t.is(body.details?.fields?.[0]?.field, field, JSON.stringify(request));
    }
  });

  test(over('an invalid message is dead-lettered with the reason, whole'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo], { maxMessageBytes: 2_000 });
    const caller = await RawCaller.open(t, broker, queue);
    const request = JSON.stringify({ request_body: { action: 'echo' } });
    const deep = `{"request_body":${'['.repeat(500)}${']'.repeat(500)}}`;
    const cases: [
      body: Buffer | string,
      options: { replyTo?: string; contentType?: string },
      reason: RegExp,
    ][] = [
      ['', {}, /the encoding is not supported/],
      ['hello', {}, /the encoding is not supported/],
      [Buffer.from([131, 104]), {}, /the encoding is not supported/],
      ['{"request_body":', {}, /not valid JSON/],
      [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), {}, /UTF-8/],
      [deep, {}, /nested/],
      ['[1]', { contentType: 'application/json' }, /not a map/],
      ['{}', {}, /no request_body/],
      ['{"request_body":[]}', {}, /no request_body/],
      ['{"status":"completed","request_body":{"action":"echo"}}', {}, /status/],
      ['{"id":"05","request_body":{"action":"echo"}}', {}, /id/],
      ['{"id":5.5,"request_body":{"action":"echo"}}', {}, /id/],
      [request, { replyTo: queue }, /reply_to/],
      [request, { replyTo: `${queue}_error` }, /reply_to/],
      [JSON.stringify({ request_body: { action: 'x'.repeat(2_000) } }), {}, /2\d\d\d bytes/],
    ];
    for (const [body, options, reason] of cases) {
      caller.publish(body, { ...options, messageId: 'm1', headers: { mine: 'kept' } });
      const message = await caller.take('error queue');
      t.deepEqual(message.content, Buffer.from(body));
      t.regex(String(message.properties.headers?.['x-reason']), reason);
      t.is(message.properties.headers?.mine, 'kept');
      t.is(message.properties.messageId, 'm1');
    }
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });

  test(over("a record's id comes back as it was sent, as a number or as text"), async (t) => {
    const { queue, logs } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    for (const id of ['13', '"13"', '0', '"0"', '9223372036854775807', '"9223372036854775807"']) {
      const correlationId = caller.sendRaw(`{"id":${id},"request_body":{"action":"echo"}}`);
      const { message, answer } = await caller.replyFor(correlationId);
      t.is(answer.status, 'completed', id);
      t.true(message.content.toString().includes(`"id":${id},`), message.content.toString());
      await eventually(
        `the log names ${id}`,
        () => logs.find(/^request completed$/).at(-1)?.request === id.replaceAll('"', ''),
      );
    }
  });

  test(over('an invalid record id is refused, dead-lettered and reported in a reply'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    const texts = [
      '',
      ' ',
      ' 13',
      '13 ',
      '13\n',
      '+13',
      '-13',
      '013',
      '00',
      '1e3',
      '13.0',
      '0x1',
      '١٣',
      'nil',
    ];
    const others = ['5.5', '-1', '-0', 'true', '[]', '[49,51]', '{}', '1e30', '9223372036854775808'];
    for (const id of [...texts.map((text) => JSON.stringify(text)), ...others, '"9223372036854775808"']) {
      const correlationId = caller.sendRaw(`{"id":${id},"request_body":{"action":"echo"}}`);
      const { answer } = await caller.replyFor(correlationId);
      t.like(
        answer,
        { id: JSON.parse(JSON.stringify(JSON.parse(id))), request_body: { action: 'echo' }, status: 'error' },
        id,
      );
      t.is(answer.response_body.code, 'invalid_request');
      t.regex(String(answer.response_body.errors), /Invalid message: its id is not the id of a record/);
      const { properties } = await caller.take('error queue');
      t.regex(String(properties.headers?.['x-reason']), /its id is not the id of a record/, id);
    }
  });

  test(over('an invalid message that names a reply_to gets a reply too'), async (t) => {
    const { queue, service } = await serveRequests(t, broker, [echo], { maxMessageBytes: 2_000 });
    const caller = await RawCaller.open(t, broker, queue);
    const tooLong = JSON.stringify({ request_body: { action: 'x'.repeat(2_000) } });
    for (const [body, reason] of [
      ['hello', /the encoding is not supported/],
      ['{"request_body":', /not valid JSON/],
      ['{}', /no request_body/],
      ['{"status":"completed","request_body":{"action":"echo"}}', /status/],
      [tooLong, /bytes/],
    ] as const) {
      const { message, answer } = await caller.replyFor(caller.sendRaw(body));
      t.like(message.properties, { contentType: 'application/json', type: 'reply' });
      t.like(answer, { id: null, status: 'error', response_body: { code: 'invalid_request' } });
      t.regex(String(answer.response_body.errors), reason);
      t.false('trace_id' in answer.response_body);
      t.is((await caller.take('error queue')).content.toString(), body);
    }
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
    const traced = await caller.replyFor(caller.sendRaw('hello', { headers }));
    t.is(traced.answer.response_body.trace_id, traceId);
    await caller.take('error queue');
    for (const own of [queue, `${queue}.audit`]) {
      caller.publish('hello', { replyTo: own });
      await caller.take('error queue');
    }
    await eventually('nothing is held', () => service.held === 0);
    t.is(await caller.waiting('error queue'), 0, 'our own queues are not answered');
  });

  test(over('an invalid message is dead-lettered only when its reply is confirmed'), async (t) => {
    let confirm = () => {};
    const slow = {
      reaches: () => true,
      needsPlainReply: false,
      send: async () => new Promise<SendOutcome>((resolve) => (confirm = () => resolve('sent'))),
    };
    const { queue, service } = await serveRequests(t, broker, [echo], { channels: [slow] });
    const caller = await RawCaller.open(t, broker, queue);
    await caller.replyFor(caller.sendRaw('{}'));
    t.is(await caller.waiting('error queue'), 0);
    t.is(service.held, 1);
    confirm();
    await caller.take('error queue');
  });

  test(over('a small result is sent although its request is too large to be sent back'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo], { maxAnswerBytes: 1_000 });
    const caller = await RawCaller.open(t, broker, queue);
    const long = 'x'.repeat(1_000);
    for (const request of [
      { id: '13', queue_name: long, request_body: { action: 'echo', action_parameters: { number: 7 } } },
      { id: '13', request_body: { action: 'echo', action_parameters: { number: 7 }, __struct__: long } },
    ]) {
      const { message, answer } = await caller.replyFor(caller.sendRaw(JSON.stringify(request)));
      t.true(message.content.length <= 1_000);
      t.like(answer, { id: '13', status: 'completed', request_body: {}, response_body: { number: 7 } });
    }
    // The id of a refused message may be the large part.
    const refused = await caller.replyFor(caller.sendRaw(JSON.stringify({ id: long, request_body: {} })));
    t.true(refused.message.content.length <= 1_000);
    t.like(refused.answer, { id: null, response_body: { code: 'invalid_request' } });
  });

  test(over('without a reply channel, a change is run and a read is skipped'), async (t) => {
    const runs: string[] = [];
    const actions = (['read', 'change'] as const).map((effect) =>
      doing(async () => ({ n: runs.push(effect) }), { name: effect, effect }),
    );
    const { queue, logs } = await serveRequests(t, broker, actions);
    const caller = await RawCaller.open(t, broker, queue);
    for (const action of ['read', 'change']) caller.publish(JSON.stringify({ request_body: { action } }));
    await eventually('the change ran', () => runs.length > 0);
    t.is((await caller.ask({ action: 'read' })).answer.status, 'completed');
    t.deepEqual(runs, ['change', 'read']);
    await eventually('it is logged', () => logs.find(/^request failed$/)[0]?.level === 'warn');
    caller.publish(JSON.stringify({ request_body: { action: 'read' } }), { replyTo: '' });
    await eventually('an empty reply_to is none', () => logs.find(/^request failed$/).length === 2);
    t.is(logs.find(/^reply dropped$/).length, 0);
  });

  test(
    over('an action that fails unexpectedly reports the caller nothing of it, and the log everything'),
    async (t) => {
      const thrown: unknown[] = [new TypeError('secret reason'), 'text', undefined, null, { code: 'x' }];
      const throwing = doing(async () => {
        throw thrown.shift();
      });
      const { queue, logs } = await serveRequests(t, broker, [throwing]);
      const caller = await RawCaller.open(t, broker, queue);
      for (let left = thrown.length; left > 0; left--) {
        const { message, answer } = await caller.ask({ action: 'act' });
        t.is(answer.response_body.code, 'internal');
        t.notRegex(message.content.toString(), /secret|rpc-server\.test/);
      }
      t.regex(
        String(logs.find(/^action failed unexpectedly$/)[0]?.error),
        /TypeError: secret reason\n\s+at .*rpc-server\.test/,
      );
    },
  );

  test(over("an action's own error reaches the caller with its code and details"), async (t) => {
    const refusing = doing(async () => {
      throw new ActionError('too_cold', 'It is too cold', { details: { degrees: -5 } });
    });
    const { queue } = await serveRequests(t, broker, [refusing]);
    const caller = await RawCaller.open(t, broker, queue);
    const { answer } = await caller.ask({ action: 'act' });
    t.deepEqual(answer.response_body, {
      errors: ['It is too cold'],
      code: 'too_cold',
      details: { degrees: -5 },
    });
  });

  test(over('a reply that is too large or cannot be encoded is replaced by an error'), async (t) => {
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    const results: object[] = [{ text: 'x'.repeat(5_000) }, cyclic];
    const { queue, logs } = await serveRequests(t, broker, [doing(async () => results.shift())], {
      maxAnswerBytes: 4_000,
    });
    const caller = await RawCaller.open(t, broker, queue);
    t.is((await caller.ask({ action: 'act' })).answer.response_body.code, 'answer_too_large');
    t.is((await caller.ask({ action: 'act' })).answer.response_body.code, 'internal');
    await eventually('both are logged', () => logs.find(/^request failed$/).length === 2);
    t.deepEqual(
      logs.find(/^request failed$/).map(({ code }) => code),
      ['answer_too_large', 'internal'],
    );
  });

  test(over('while the broker blocks publishing the service is not ready'), async (t) => {
    const connections: ChannelModel[] = [];
    const listened: TestBroker = {
      ...broker,
      connect: async (url, options) => {
        const connection = await broker.connect(url, options);
        connections.push(connection);
        return connection;
      },
    };
    const { service } = await serveRequests(t, listened, [echo]);
    connections[0]?.emit('blocked', 'low on memory');
    t.deepEqual(service.notReady(), ['the broker accepts no messages: low on memory']);
    connections[0]?.emit('unblocked');
    t.deepEqual(service.notReady(), []);
  });

  test(over('a reply whose reply queue is gone is dropped and logged, and disturbs no other'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, logs } = await serveRequests(t, broker, [action, echo]);
    const [leaving, staying] = [
      await RawCaller.open(t, broker, queue),
      await RawCaller.open(t, broker, queue),
    ];
    leaving.send({ action: 'act' });
    await eventually('the action runs', () => begun() === 1);
    await leaving.leave();
    finishRun();
    await eventually('it is logged', () => logs.find(/^reply dropped$/).length === 1);
    t.is((await staying.ask({ action: 'echo' })).answer.status, 'completed');
    t.is(logs.find(/broker connection lost/).length, 0);
  });

  test(over('the header timeout-ms is a deadline that stops the work'), async (t) => {
    let stopped: unknown;
    const waiting = doing(async ({ signal }) => {
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject((stopped = signal.reason))),
      );
      return undefined;
    });
    const { queue } = await serveRequests(t, broker, [waiting]);
    const caller = await RawCaller.open(t, broker, queue);
    for (const value of [30, '30']) {
      const { answer } = await caller.ask({ action: 'act' }, { headers: { 'timeout-ms': value } });
      t.is(answer.response_body.code, 'timeout');
      t.true(stopped instanceof ActionError);
    }
    for (const value of [0, -1, 'soon', true]) {
      const { answer } = await caller.ask({ action: 'act' }, { headers: { 'timeout-ms': value } });
      t.is(answer.response_body.details?.fields?.[0]?.field, 'timeout-ms', String(value));
    }
  });

  test(
    over('a request whose connection is lost while it runs gets one reply, and is not done twice'),
    async (t) => {
      const { action, begun, finishRun } = held({ effect: 'change' });
      const { queue, cut, service } = await serveRequests(t, broker, [action]);
      const caller = await RawCaller.open(t, broker, queue);
      const id = caller.send({ action: 'act' }, { messageId: 'change-1', persistent: true });
      await eventually('the change runs', () => begun() === 1);
      cut();
      await eventually('the loss is seen', () => service.notReady().length > 0);
      await eventually('it is connected again', () => service.notReady().length === 0);
      finishRun();
      const { answer } = await caller.replyFor(id);
      t.deepEqual(answer.response_body, { run: 1 });
      await eventually('everything is acknowledged', () => service.held === 0);
      t.is(begun(), 1);
      t.is(await caller.waiting(), 0);
    },
  );

  test(over('a finished reply that could not be sent is sent after the connection is back'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue, cut, service } = await serveRequests(t, broker, [action]);
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send({ action: 'act' }, { messageId: 'change-2', persistent: true });
    await eventually('the change runs', () => begun() === 1);
    cut();
    finishRun();
    await eventually('the loss is seen', () => service.notReady().length > 0);
    const { answer } = await caller.replyFor(id);
    t.is(answer.status, 'completed');
    await eventually('everything is acknowledged', () => service.held === 0);
    t.is(begun(), 1);
  });

  test(over('a change without a waiting caller is not done twice when its connection is lost'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change', redelivery: 'run-again' });
    const { queue, cut, service } = await serveRequests(t, broker, [action]);
    const caller = await RawCaller.open(t, broker, queue);
    const body = JSON.stringify({ request_body: { action: 'act' } });
    caller.publish(body, { messageId: 'change-3', persistent: true });
    await eventually('the change runs', () => begun() === 1);
    cut();
    await eventually('the loss is seen', () => service.notReady().length > 0);
    await eventually('it is delivered again', () => service.held === 2);
    finishRun();
    await eventually('everything is acknowledged', () => service.held === 0);
    t.is(begun(), 1);
    t.is(await caller.waiting(), 0);
  });

  test(over('a redelivered change that is not remembered is not run again; a read is'), async (t) => {
    const runs: string[] = [];
    const named = (name: string, definition: Parameters<typeof doing>[1]) =>
      doing(async () => ({ runs: runs.push(name) }), { name, ...definition });
    const queue = `test_${randomUUID()}`;
    const caller = await RawCaller.open(t, broker, queue);
    await makeQueue(broker, queue);
    const ids = ['read', 'change', 'again'].map((action) =>
      caller.send({ action }, { messageId: `${action}-1` }),
    );
    await loseWorker(broker, queue, ids.length);
    await serveRequests(
      t,
      broker,
      [
        named('read', { effect: 'read' }),
        named('change', { effect: 'change' }),
        named('again', { effect: 'change', redelivery: 'run-again' }),
      ],
      { queue, concurrency: 1 },
    );
    const answers = await Promise.all(ids.map(async (id) => (await caller.replyFor(id)).answer));
    t.deepEqual(
      answers.map(({ response_body: { code } }) => code),
      [undefined, 'outcome_unknown', undefined],
    );
    t.deepEqual(runs, ['read', 'again']);
  });

  test(
    over('at shutdown, waiting requests are requeued unmarked, and running ones get their replies'),
    async (t) => {
      const { action, begun, finishRun } = held({ effect: 'change' });
      const { queue, service } = await serveRequests(t, broker, [action], { concurrency: 1 });
      const caller = await RawCaller.open(t, broker, queue);
      const options = {
        persistent: true,
        headers: { 'timeout-ms': 60_000, CC: ['elsewhere'] },
        messageId: 'm',
      };
      const running = caller.send({ action: 'act' }, options);
      const waiting = [1, 2, 3].map(() => caller.send({ action: 'act' }, options));
      await eventually('all are held', () => service.held === 4 && begun() === 1);
      const drained = service.drain(10_000);
      await eventually('the waiting ones are requeued', () => service.held === 1);
      finishRun();
      t.true(await drained);
      t.is((await caller.replyFor(running)).answer.status, 'completed');
      t.is(begun(), 1);
      for (const id of waiting) {
        const message = await caller.take('queue');
        t.false(message.fields.redelivered ?? false);
        t.is(message.properties.correlationId, id);
        t.true(message.properties.headers?.['timeout-ms'] <= 60_000);
        t.is(message.properties.headers?.CC, undefined);
      }
    },
  );

  test(
    over('requests that got their replies at shutdown are acknowledged, and do not come back'),
    async (t) => {
      const { action, begun, finishRun } = held({ effect: 'change', redelivery: 'run-again' });
      const { queue, service } = await serveRequests(t, broker, [action]);
      const caller = await RawCaller.open(t, broker, queue);
      const id = caller.send({ action: 'act' }, { persistent: true });
      await eventually('it runs', () => begun() === 1);
      const drained = service.drain(10_000);
      finishRun();
      t.true(await drained);
      await service.close();
      await caller.replyFor(id);
      t.is(await caller.waiting(), 0);
    },
  );

  test(over('a request that still runs after the grace time is stopped and gets a reply'), async (t) => {
    const { action, begun } = held();
    const { queue, service } = await serveRequests(t, broker, [action]);
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send({ action: 'act' });
    await eventually('it runs', () => begun() === 1);
    t.true(await service.drain(20));
    t.is((await caller.replyFor(id)).answer.response_body.code, 'cancelled');
  });

  test(over('a hundred concurrent requests each get their own reply'), async (t) => {
    const shuffling = doing(async ({ parameters }) => {
      await sleep(Math.random() * 5);
      return { parameters };
    });
    const { queue } = await serveRequests(t, broker, [shuffling]);
    const caller = await RawCaller.open(t, broker, queue);
    const asked = Array.from({ length: 100 }, (_, n) => String(n));
    const answers = await Promise.all(
      asked.map(
        async (text) =>
          (await caller.ask({ action: 'act', action_parameters: { text } })).answer.response_body,
      ),
    );
    t.deepEqual(
      answers,
      asked.map((text) => ({ parameters: { text } })),
    );
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: it delivers as many messages as memory has room for at their largest, then more while there is room', async (t) => {
    const ample = notingPrefetch(rabbit);
    await serveRequests(t, ample.noting, [echo]);
    t.deepEqual([ample.requests, ample.suspects], [[200], [30]]);
    const { noting, requests, suspects } = notingPrefetch(rabbit);
    const { action, begun, finishRun } = held();
    const memory = { maxMessageBytes: 100_000, memoryBudgetBytes: 400_000 };
    const { queue, service } = await serveRequests(t, noting, [action], memory);
    t.deepEqual([requests, suspects], [[4], [4]]);
    const caller = await RawCaller.open(t, rabbit, queue);
    for (const total of [4, 7, 10]) {
      while (service.held < total) {
        const before = service.held;
        caller.send({ action: 'act' });
        await eventually('it runs', () => begun() === before + 1 && service.held === before + 1);
      }
    }
    t.deepEqual(requests?.slice(0, 3), [4, 3, 3]);
    finishRun();
    await eventually('nothing is held', () => service.held === 0);
  });

  // The embedded broker does not report its consumers of a deleted queue.
  test('RabbitMQ: a queue that is deleted in progress is made again', async (t) => {
    const { queue, service, logs } = await serveRequests(t, rabbit, [echo]);
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    await channel.deleteQueue(queue);
    await eventually('it is logged', () => logs.find(/broker connection lost/).length === 1);
    await eventually('it is ready', () => service.notReady().length === 0);
    const caller = await RawCaller.open(t, rabbit, queue);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });
}
