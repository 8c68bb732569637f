import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import type { Channel, ChannelModel, ConsumeMessage, Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import {
  type CallOptions,
  type ClientOptions,
  FleetManagerClient,
  FleetManagerError,
} from '../../src/client/client.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { brokers, embeddedBroker, rabbitmq, type TestBroker, withChannels } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { startProxy } from '../support/proxy.js';
import { collectGarbage } from '../support/collect-garbage.js';

/** Longer than any test takes. */
const UNHURRIED_MS = 600_000;
const UNIT = { unit_name: 'a.service' };

/** A queue whose requests the test takes and replies to, like a service. */
async function openQueue(t: ExecutionContext, broker: TestBroker, options: Options.AssertQueue = {}) {
  const queue = `test_${randomUUID()}`;
  const connection = await broker.open();
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, options);
  t.teardown(async () => {
    await channel.deleteQueue(queue);
    await connection.close();
  });
  const taken: ConsumeMessage[] = [];
  const take = async () =>
    channel.consume(queue, (message) => message !== null && taken.push(message), { noAck: true });
  /** Publishes a reply to the nth request. */
  const send = (n: number, content: string, changes: Options.Publish = {}) => {
    const { replyTo, correlationId } = taken[n]?.properties ?? {};
    const properties = { correlationId: String(correlationId), contentType: 'application/json', ...changes };
    channel.sendToQueue(String(replyTo), Buffer.from(content), properties);
  };
  const answer = (n: number, responseBody: unknown, status = 'completed') =>
    send(n, JSON.stringify({ status, response_body: responseBody }));
  return {
    queue,
    channel,
    /** A second channel, for operations that the broker refuses by closing the channel. */
    otherChannel: async () => connection.createChannel(),
    taken,
    take,
    send,
    answer,
    arrived: async (count: number) =>
      eventually(`${count} requests have arrived`, () => taken.length >= count),
    actions: () => taken.map((message) => bodyOf(message).request_body?.action),
    replyQueue: () => String(taken[0]?.properties.replyTo),
  };
}

/** Replies to each request in a queue with the same result. */
async function serveQueue(connection: ChannelModel, queue: string, result: string): Promise<void> {
  const channel = await connection.createChannel();
  await channel.assertQueue(queue);
  const reply = Buffer.from(JSON.stringify({ status: 'completed', response_body: result }));
  const answer = ({ properties: { replyTo, correlationId } }: ConsumeMessage) =>
    channel.sendToQueue(String(replyTo), reply, { correlationId: String(correlationId) });
  await channel.consume(queue, (message) => message !== null && answer(message), { noAck: true });
}

function bodyOf(message: ConsumeMessage | undefined): { request_body?: { action?: string } } {
  return JSON.parse(String(message?.content));
}

function clientOf(t: ExecutionContext, broker: TestBroker, options: Partial<ClientOptions>) {
  const client = new FleetManagerClient({ urls: [broker.url], connect: broker.connect, ...options });
  t.teardown(async () => client.close());
  return client;
}

/** Calls an action whose reply the test writes, so it has no type. */
async function ask(client: FleetManagerClient, action: string, options?: CallOptions): Promise<unknown> {
  return client.call(action, options);
}

async function failure(t: ExecutionContext, call: Promise<unknown>): Promise<FleetManagerError> {
  return t.throwsAsync(call, { instanceOf: FleetManagerError });
}

/** Connects to the embedded broker, and changes each channel of the connections. */
function changedChannels(change: (channel: Channel) => void) {
  const broker = embeddedBroker();
  let connection: ChannelModel | undefined;
  const connect = withChannels(
    async (url, options) => (connection = await broker.connect(url, options)),
    change,
  );
  return { broker: { ...broker, connect }, current: () => connection };
}

/** Lets all work proceed that does not wait for time to pass. */
const settle = async () => new Promise(setImmediate);

/** Whether a promise has settled so far. */
function settledOf(promise: Promise<unknown>): () => boolean {
  let settled = false;
  promise.finally(() => (settled = true)).catch(() => {});
  return () => settled;
}

for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(over('a request has the priority that its caller gives'), async (t) => {
    const { queue, taken, take, arrived, answer } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue });
    const calls = [ask(client, 'act', { priority: 7 })];
    await arrived(1);
    calls.push(ask(client, 'act'));
    await arrived(2);
    t.deepEqual(
      taken.map(({ properties }) => Number(properties.priority ?? 0)),
      [7, 0],
    );
    for (const n of [0, 1]) answer(n, {});
    await Promise.all(calls);
  });

  test(
    over('a request has the idempotency key that its caller gives, and its reply tells whose it is'),
    async (t) => {
      const { queue, taken, take, arrived, send } = await openQueue(t, broker);
      await take();
      const client = clientOf(t, broker, { queue });
      const calls = [];
      for (const idempotencyKey of ['k 1', 'k 1', undefined]) {
        calls.push(client.request('act', { ...(idempotencyKey !== undefined && { idempotencyKey }) }));
        await arrived(calls.length);
      }
      t.deepEqual(
        taken.map(({ properties }) => properties.headers?.['idempotency-key']),
        ['"k 1"', '"k 1"', undefined],
      );
      const done = JSON.stringify({ status: 'completed', response_body: 1 });
      for (const [n, headers] of [
        {},
        { 'idempotency-replayed': true },
        { 'idempotency-replayed': 'x' },
      ].entries())
        send(n, done, { headers });
      const replies = await Promise.all(calls);
      t.deepEqual(
        replies.map(({ replayed }) => replayed),
        [undefined, true, undefined],
      );
    },
  );

  test(over('a request says who its caller is on the broker, and no more'), async (t) => {
    const { queue, taken, take, arrived } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue });
    ask(client, 'act').catch(() => {});
    await arrived(1);
    const [properties] = taken.map((each) => each.properties);
    t.is(properties?.userId, 'guest');
    t.deepEqual(Object.keys(properties?.headers ?? {}), ['timeout-ms']);
  });

  test(over('a request names its action, its reply queue and the time that is left'), async (t) => {
    const { queue, taken, take, arrived, answer } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue, clock: new ManualClock() });
    const calls = [
      ask(client, 'list_units', { cluster: 'token', parameters: { name: 'a*' }, timeoutMs: 1_500 }),
    ];
    await arrived(1);
    calls.push(ask(client, 'act'));
    await arrived(2);
    const envelope = { queue_name: '', id: null, status: 'not_started', response_body: null };
    t.deepEqual(bodyOf(taken[0]), {
      ...envelope,
      request_body: { etcd_token: 'token', action: 'list_units', action_parameters: { name: 'a*' } },
    });
    t.deepEqual(bodyOf(taken[1]), {
      ...envelope,
      request_body: { action: 'act', action_parameters: null },
    });
    const [first, second] = taken.map(({ properties }) => properties);
    t.like(first, {
      contentType: 'application/json',
      headers: { 'timeout-ms': 1_500 },
      expiration: '1500',
    });
    // The embedded broker gives properties as they were set.
    t.true(first?.deliveryMode === 2 || Reflect.get(first ?? {}, 'persistent') === true);
    t.is(first?.messageId, first?.correlationId);
    t.like(second, { headers: { 'timeout-ms': 30_000 }, expiration: '30000' });
    t.is(second?.replyTo, first?.replyTo);
    t.not(second?.correlationId, first?.correlationId);
    answer(1, 'second');
    answer(0, 'first');
    t.deepEqual(await Promise.all(calls), ['first', 'second']);
  });

  for (const [what, action, resend, sent] of [
    ['a change', 'restart_unit', undefined, 1],
    ['an action that is not known', 'of_a_plugin', undefined, 1],
    ['a read that is not to be sent again', 'list_units', false, 1],
    ['a read', 'list_units', undefined, 2],
    ['an action that may be sent again', 'of_a_plugin', true, 2],
  ] as const) {
    const times = sent === 1 ? 'once' : 'twice';
    test(over(`${what} is sent ${times} when the connection is lost before its confirmation`), async (t) => {
      const { queue, taken, take, arrived, answer, actions } = await openQueue(t, broker);
      await take();
      const link = faultyLink(broker);
      const client = clientOf(t, broker, { queue, connect: link.connect });
      link.withholdConfirms();
      const call = ask(client, action, { timeoutMs: UNHURRIED_MS, resend });
      await arrived(1);
      link.passConfirms();
      link.cut();
      await eventually('it is connected again', () => link.counts.made === 2);
      const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
      await arrived(sent + 1);
      t.deepEqual(actions(), [...Array(sent).fill(action), 'list_machines']);
      // Its reply arrives in the queue that it named when it was first sent.
      answer(0, 'done');
      t.is(await call, 'done');
      answer(sent, 'next');
      t.is(await next, 'next');
      t.is(taken.length, sent + 1);
      if (sent === 1) return;
      const [first, again] = taken.map(({ properties }) => properties);
      t.is(again?.correlationId, first?.correlationId);
      t.is(again?.messageId, first?.messageId);
      t.is(again?.replyTo, first?.replyTo);
      t.true(again?.headers?.['timeout-ms'] < first?.headers?.['timeout-ms']);
      t.is(again?.expiration, String(again?.headers?.['timeout-ms']));
      // Both runs may reply: the second reply is ignored.
      answer(1, 'done again');
      const last = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
      await arrived(sent + 2);
      answer(sent + 1, 'last');
      t.is(await last, 'last');
    });
  }

  /** A client with two calls of this action on one channel, which the broker has taken and not confirmed. */
  const openUnconfirmed = async (t: ExecutionContext, action: string) => {
    const requests = await openQueue(t, broker);
    const { queue, arrived, answer } = requests;
    await requests.take();
    const link = faultyLink(broker);
    const client = clientOf(t, broker, { queue, connect: link.connect });
    // Messages share a channel when the broker has accepted a larger one.
    const parameters = { padding: 'x'.repeat(100) };
    const first = client.call('of_a_plugin', { parameters, timeoutMs: UNHURRIED_MS });
    await arrived(1);
    answer(0, 'first');
    await first;
    link.withholdConfirms();
    const calls = [1, 2].map(async () => ask(client, action, { timeoutMs: UNHURRIED_MS }));
    await arrived(3);
    await eventually('both confirmations are withheld', () => link.counts.withheld === 2);
    return { ...requests, client, link, calls };
  };

  for (const [what, action, again] of [
    ['a change is not', 'restart_unit', []],
    ['a read is', 'list_units', ['list_units', 'list_units']],
  ] as const)
    test(over(`${what} sent again when the broker closes its channel over another message`), async (t) => {
      const { client, link, calls, taken, arrived, answer, actions } = await openUnconfirmed(t, action);
      link.passConfirms();
      link.refuseWithheld();
      await arrived(3 + again.length);
      const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
      await arrived(4 + again.length);
      t.deepEqual(actions(), ['of_a_plugin', action, action, ...again, 'list_machines']);
      for (const n of taken.keys()) answer(n, 'done');
      t.deepEqual(await Promise.all([...calls, next]), ['done', 'done', 'done']);
      t.is(taken.length, 4 + again.length);
    });

  test(over('a read whose reply arrives before it could be sent again is not sent again'), async (t) => {
    const { client, link, calls, taken, arrived, answer, actions } = await openUnconfirmed(t, 'list_units');
    const release = link.holdChannels();
    link.refuseWithheld();
    // One takes the channel that is there, and the other one has to wait.
    await arrived(4);
    answer(1, 'done');
    answer(2, 'done');
    t.deepEqual(await Promise.all(calls), ['done', 'done']);
    link.passConfirms();
    release();
    await settle();
    const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
    await arrived(5);
    t.deepEqual(actions(), ['of_a_plugin', 'list_units', 'list_units', 'list_units', 'list_machines']);
    answer(4, 'next');
    t.is(await next, 'next');
    t.is(taken.length, 5);
  });

  test(
    over('a change that was not confirmed and got no reply has an unknown outcome; a read is late'),
    async (t) => {
      const { queue, take, arrived } = await openQueue(t, broker);
      await take();
      const link = faultyLink(broker);
      const clock = new ManualClock();
      const client = clientOf(t, broker, { queue, connect: link.connect, clock });
      link.withholdConfirms();
      const calls = ['restart_unit', 'list_units'].map(async (action) =>
        failure(t, ask(client, action, { timeoutMs: 5_000 })),
      );
      const settled = calls.map(settledOf);
      await arrived(2);
      const release = link.hold();
      link.cut();
      await eventually('it is cut', () => link.counts.open === 0);
      // Two seconds more than the service has: its own timeout error may be in progress.
      clock.advance(6_999);
      await settle();
      t.deepEqual(
        settled.map((each) => each()),
        [false, false],
      );
      clock.advance(1);
      const [change, read] = await Promise.all(calls);
      t.like(change, { code: 'outcome_unknown', retryable: false });
      t.regex(
        String(change?.message),
        /^no reply within 5000 ms; the request was sent, so the action may or may not/,
      );
      t.like(read, { code: 'timeout', message: 'no reply within 5000 ms' });
      release();
    },
  );

  test(over('a call whose request is not confirmed can be aborted'), async (t) => {
    const { queue, take, arrived } = await openQueue(t, broker);
    await take();
    const link = faultyLink(broker);
    const client = clientOf(t, broker, { queue, connect: link.connect });
    link.withholdConfirms();
    const leaving = new AbortController();
    const call = ask(client, 'restart_unit', { timeoutMs: UNHURRIED_MS, signal: leaving.signal });
    await arrived(1);
    leaving.abort(new Error('enough'));
    await t.throwsAsync(call, { message: 'enough' });
  });

  /** A client that is connected only after `release`, and the queue that it calls. */
  const openUnconnected = async (t: ExecutionContext) => {
    const requests = await openQueue(t, broker);
    await requests.take();
    const link = faultyLink(broker);
    const release = link.hold();
    const clock = new ManualClock();
    const client = clientOf(t, broker, { queue: requests.queue, connect: link.connect, clock });
    return { ...requests, client, clock, release };
  };

  test(over('what could not be sent in time is known not to be done, and is not sent later'), async (t) => {
    const { client, clock, release, taken, arrived, answer, actions } = await openUnconnected(t);
    const calls = ['restart_unit', 'list_units'].map(async (action) =>
      failure(t, ask(client, action, { timeoutMs: 1_000 })),
    );
    clock.advance(3_000);
    for (const error of await Promise.all(calls))
      t.like(error, {
        code: 'service_unavailable',
        message: 'no connection to a broker: not connected yet',
        retryable: true,
      });
    const next = ask(client, 'list_machines');
    release();
    await arrived(1);
    t.deepEqual(actions(), ['list_machines']);
    answer(0, 'next');
    t.is(await next, 'next');
    t.is(taken.length, 1);
  });

  test(over('what has one millisecond left is sent, and what has none is not'), async (t) => {
    const { client, clock, release, taken, arrived, answer, actions } = await openUnconnected(t);
    const late = failure(t, ask(client, 'late', { timeoutMs: 1_000 }));
    const inTime = ask(client, 'in_time', { timeoutMs: 1_001 });
    clock.advance(1_000);
    release();
    await arrived(1);
    t.deepEqual(actions(), ['in_time']);
    t.deepEqual(taken[0]?.properties.headers, { 'timeout-ms': 1 });
    answer(0, 'done');
    t.is(await inTime, 'done');
    clock.advance(2_000);
    t.is((await late).code, 'service_unavailable');
    t.is(taken.length, 1);
  });

  test(over('a call that is aborted while it waits for the connection is not sent later'), async (t) => {
    const { client, release, taken, arrived, answer, actions } = await openUnconnected(t);
    const leaving = new AbortController();
    const call = ask(client, 'restart_unit', { parameters: UNIT, signal: leaving.signal });
    leaving.abort(new Error('enough'));
    await t.throwsAsync(call, { message: 'enough' });
    const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
    release();
    await arrived(1);
    t.deepEqual(actions(), ['list_machines']);
    answer(0, 'next');
    t.is(await next, 'next');
    t.is(taken.length, 1);
  });

  test(
    over('a request whose call has ended, or whose time is up, before it could be written is not sent'),
    async (t) => {
      const { queue, take, arrived, actions, answer } = await openQueue(t, broker);
      await take();
      const link = faultyLink(broker);
      const clock = new ManualClock();
      const client = clientOf(t, broker, { queue, connect: link.connect, clock });
      await eventually('it is connected', () => client.problem === undefined);
      const release = link.holdChannels();
      const leaving = new AbortController();
      // The first one takes the channel that is there.
      const first = ask(client, 'first', { timeoutMs: UNHURRIED_MS });
      const aborted = ask(client, 'restart_unit', { timeoutMs: UNHURRIED_MS, signal: leaving.signal });
      const late = failure(t, ask(client, 'restart_unit', { timeoutMs: 1_000 }));
      await arrived(1);
      leaving.abort(new Error('enough'));
      await t.throwsAsync(aborted, { message: 'enough' });
      clock.advance(1_000);
      release();
      await settle();
      const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
      await arrived(2);
      clock.advance(2_000);
      // Not an unknown outcome.
      t.is((await late).code, 'service_unavailable');
      answer(0, 'first');
      answer(1, 'next');
      t.deepEqual(await Promise.all([first, next]), ['first', 'next']);
      t.deepEqual(actions(), ['first', 'list_machines']);
    },
  );

  test(over('a request is not sent while the broker accepts no messages'), async (t) => {
    const { queue, take, arrived, actions, answer } = await openQueue(t, broker);
    await take();
    const connections: ChannelModel[] = [];
    const connect: Connect = async (url, options) => {
      const connection = await broker.connect(url, options);
      connections.push(connection);
      return connection;
    };
    const clock = new ManualClock();
    const client = clientOf(t, broker, { queue, connect, clock });
    const first = ask(client, 'first');
    await arrived(1);
    answer(0, 'first');
    await first;
    connections[0]?.emit('blocked', 'low on memory');
    const late = failure(t, ask(client, 'restart_unit', { timeoutMs: 1_000 }));
    const inTime = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await settle();
    clock.advance(3_000);
    t.is((await late).code, 'service_unavailable');
    connections[0]?.emit('blocked', 'low on memory and disk');
    connections[0]?.emit('unblocked');
    await arrived(2);
    answer(1, 'in time');
    t.is(await inTime, 'in time');
    t.deepEqual(actions(), ['first', 'list_units']);
  });

  test(
    over('a request that waits until the broker accepts messages is sent by the next connection'),
    async (t) => {
      const { queue, take, arrived, answer } = await openQueue(t, broker);
      await take();
      const link = faultyLink(broker);
      const connections: ChannelModel[] = [];
      const connect: Connect = async (url, options) => {
        const connection = await link.connect(url, options);
        connections.push(connection);
        return connection;
      };
      const client = clientOf(t, broker, { queue, connect });
      await eventually('it is connected', () => client.problem === undefined);
      connections[0]?.emit('blocked', 'low on memory');
      const call = ask(client, 'restart_unit', { timeoutMs: UNHURRIED_MS });
      await settle();
      link.cut();
      await arrived(1);
      answer(0, 'done');
      t.is(await call, 'done');
    },
  );

  test(over('a call with an already aborted signal is not sent'), async (t) => {
    const { queue, take, arrived, actions } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue });
    const signal = AbortSignal.abort(new Error('enough'));
    for (const n of [1, 2]) {
      // The second time there is a connection over which it could be sent immediately.
      await t.throwsAsync(ask(client, 'restart_unit', { parameters: UNIT, signal }), { message: 'enough' });
      ask(client, 'list_machines').catch(() => {});
      await arrived(n);
    }
    t.deepEqual(actions(), ['list_machines', 'list_machines']);
  });

  test(over('however a call ends, its signal keeps no listener'), async (t) => {
    const { queue, take, arrived, answer, send } = await openQueue(t, broker);
    await take();
    const clock = new ManualClock();
    const client = clientOf(t, broker, { queue, clock });
    const stays = new AbortController();
    const leaves = new AbortController();
    const listeners = () => getEventListeners(stays.signal, 'abort').length;
    const call = async (signal: AbortSignal) => ask(client, 'act', { signal });
    const calls: Promise<unknown>[] = [];
    // One after the other: requests that are sent at the same time may arrive in another order.
    for (const signal of [stays.signal, stays.signal, stays.signal, leaves.signal, stays.signal]) {
      calls.push(call(signal));
      await arrived(calls.length);
    }
    const [late, ...ends] = calls.toReversed();
    t.is(listeners(), 4);
    answer(0, 'done');
    answer(1, { errors: ['no'], code: 'forbidden' }, 'error');
    send(2, 'no answer');
    leaves.abort();
    await Promise.allSettled(ends);
    clock.advance(32_000);
    await Promise.allSettled([late]);
    const last = call(stays.signal);
    await Promise.all([t.throwsAsync(last), client.close()]);
    t.is(listeners(), 0);
    t.is(getEventListeners(leaves.signal, 'abort').length, 0);
  });

  test(over('a reply that is sent while the connection is down arrives when it is up again'), async (t) => {
    const { queue, channel, take, arrived, answer, replyQueue } = await openQueue(t, broker);
    await take();
    const link = faultyLink(broker);
    const client = clientOf(t, broker, { queue, connect: link.connect });
    const call = ask(client, 'restart_unit', { parameters: UNIT, timeoutMs: UNHURRIED_MS });
    const settled = settledOf(call);
    await arrived(1);
    const release = link.hold();
    link.cut();
    await eventually('the reply queue has no consumer', async () => {
      const { consumerCount } = await channel.checkQueue(replyQueue());
      return consumerCount === 0;
    });
    answer(0, 'done');
    await eventually('the answer waits', async () => {
      const { messageCount } = await channel.checkQueue(replyQueue());
      return messageCount === 1;
    });
    t.false(settled());
    release();
    t.is(await call, 'done');
  });

  test(over('replies that were taken are acknowledged'), async (t) => {
    const { queue, channel, take, arrived, answer, replyQueue } = await openQueue(t, broker);
    await take();
    const link = faultyLink(broker);
    const client = clientOf(t, broker, { queue, connect: link.connect });
    for (let n = 0; n < 5; n++) {
      const call = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
      await arrived(n + 1);
      answer(n, n);
      t.is(await call, n);
    }
    const release = link.hold();
    link.cut();
    await eventually('the reply queue has no consumer', async () => {
      const { consumerCount } = await channel.checkQueue(replyQueue());
      return consumerCount === 0;
    });
    // The acknowledgement of the last one may have been lost with the connection.
    t.true((await channel.checkQueue(replyQueue())).messageCount <= 1);
    release();
  });

  test(
    over('closing says of each call whether it may have been done, and removes the reply queue'),
    async (t) => {
      const { queue, otherChannel, take, arrived, replyQueue } = await openQueue(t, broker);
      await take();
      const link = faultyLink(broker);
      const { log, lines } = logLines();
      const client = clientOf(t, broker, { queue, connect: link.connect, log });
      const calls = [
        failure(t, ask(client, 'restart_unit', { parameters: UNIT })),
        failure(t, ask(client, 'list_units')),
        failure(t, ask(client, 'of_a_plugin')),
        failure(t, ask(client, 'of_a_plugin', { resend: true })),
      ];
      await arrived(4);
      await client.close();
      t.is(link.counts.open, 0);
      t.deepEqual(lines, [], 'nothing was lost');
      const errors = await Promise.all(calls);
      t.deepEqual(
        errors.map(({ code }) => code),
        ['outcome_unknown', 'cancelled', 'outcome_unknown', 'cancelled'],
      );
      t.regex(
        errors[0]?.message ?? '',
        /^the client was closed; the request was sent, so the action may or may not/,
      );
      t.is((await failure(t, ask(client, 'list_units'))).code, 'cancelled');
      const channel = await otherChannel();
      channel.on('error', () => {});
      await t.throwsAsync(async () => channel.checkQueue(replyQueue()));
      await t.notThrowsAsync(client.close());
    },
  );

  test(over('closing fails calls that were never sent as cancelled, changes too'), async (t) => {
    const link = faultyLink(broker);
    const release = link.hold();
    const client = clientOf(t, broker, { queue: 'any', connect: link.connect });
    const call = failure(t, ask(client, 'restart_unit', { parameters: UNIT }));
    const closed = client.close();
    t.like(await call, { code: 'cancelled', message: 'the client was closed' });
    release();
    await closed;
    await eventually('no connection is open', () => link.counts.open === 0);
  });

  test(over('a connection that is made too late, or after the client is closed, is closed'), async (t) => {
    const { queue, take, arrived, answer } = await openQueue(t, broker);
    await take();
    const link = faultyLink(broker);
    const clock = new ManualClock();
    let release = link.hold();
    const client = clientOf(t, broker, { queue, connect: link.connect, clock });
    const call = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await eventually('a connection is requested', () => link.counts.asked === 1);
    await settle();
    clock.advance(10_000);
    await settle();
    release();
    await eventually('the late one is closed', () => link.counts.made === 1 && link.counts.open === 0);
    await eventually('it waits before it tries again', () => {
      clock.advance(100);
      return link.counts.asked === 2;
    });
    await arrived(1);
    answer(0, 'done');
    t.is(await call, 'done');
    release = link.hold();
    link.cut();
    await eventually('it is connecting again', () => {
      clock.advance(100);
      return link.counts.asked === 3;
    });
    const closed = client.close();
    release();
    await closed;
    await eventually('no connection is open', () => link.counts.open === 0);
  });

  test(over('a change that no queue accepts is reported as not done'), async (t) => {
    const client = clientOf(t, broker, { queue: 'no_such_queue' });
    const error = await failure(t, ask(client, 'restart_unit', { parameters: UNIT }));
    t.like(error, {
      code: 'service_unavailable',
      message: 'there is no queue no_such_queue: is a fleet-manager running on this broker?',
      retryable: true,
    });
  });

  for (const [what, action, code, retryable, text] of [
    ['a change', 'restart_unit', 'outcome_unknown', false, /is full, or has failed; the request was sent/],
    ['a read', 'list_units', 'service_unavailable', true, /is full, or has failed$/],
  ] as const)
    test(
      over(`${what} that a queue refuses fails, and is not sent again when the connection is lost`),
      async (t) => {
        const { queue, take, arrived, answer, actions } = await openQueue(t, broker);
        await take();
        const link = faultyLink(broker);
        const client = clientOf(t, broker, { queue, connect: link.connect });
        link.refuseAndCut();
        const call = failure(t, ask(client, action, { parameters: UNIT, timeoutMs: UNHURRIED_MS }));
        await eventually('a queue has refused it', () => link.counts.refused === 1);
        const next = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
        await arrived(1);
        t.deepEqual(actions(), ['list_machines']);
        const error = await call;
        t.like(error, { code, retryable });
        t.regex(error.message, text);
        answer(0, 'next');
        t.is(await next, 'next');
        t.deepEqual(actions(), ['list_machines']);
      },
    );

  test(over('a reply that cannot be read fails only its own call'), async (t) => {
    const { queue, take, arrived, send, answer } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue });
    const unreadable = ['', 'no JSON', 'null', '[]', '"completed"', '{}', '{"status":"running"}'];
    const calls = unreadable.map(async () => failure(t, ask(client, 'act', { timeoutMs: UNHURRIED_MS })));
    await arrived(unreadable.length);
    const good = ask(client, 'act', { timeoutMs: UNHURRIED_MS });
    await arrived(unreadable.length + 1);
    send(0, '{"status":"completed"}', { correlationId: randomUUID() });
    send(0, 'to nobody', { correlationId: '' });
    for (const [n, content] of unreadable.entries()) send(n, content);
    for (const error of await Promise.all(calls)) {
      t.is(error.code, 'internal');
      t.regex(error.message, /^the reply cannot be read: /);
    }
    answer(unreadable.length, 'done');
    t.is(await good, 'done');
  });

  test(over('an error reply is returned unchanged by request, and thrown by call'), async (t) => {
    const { queue, take, arrived, answer } = await openQueue(t, broker);
    await take();
    const client = clientOf(t, broker, { queue });
    const request = client.request('act', { timeoutMs: UNHURRIED_MS });
    await arrived(1);
    const calls: Promise<FleetManagerError>[] = [];
    for (const number of [2, 3, 4]) {
      calls.push(failure(t, ask(client, 'act', { timeoutMs: UNHURRIED_MS })));
      await arrived(number);
    }
    const body = { errors: ['one', { two: 2 }], code: 'unit_not_found', details: { unit: 'x' } };
    answer(0, body, 'error');
    t.deepEqual(await request, { status: 'error', response_body: body });
    answer(1, body, 'error');
    answer(2, { errors: ['of the original service'] }, 'error');
    answer(3, null, 'error');
    const [whole, old, odd] = await Promise.all(calls);
    t.like(whole, { code: 'unit_not_found', message: 'one; {"two":2}', fault: 'caller' });
    t.deepEqual(whole?.details, { unit: 'x' });
    t.like(old, { code: 'internal', message: 'of the original service', details: undefined });
    t.like(odd, { code: 'internal', message: '' });
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: a change whose confirmation is lost is not sent again', async (t) => {
    const { queue, taken, take, arrived, answer, actions } = await openQueue(t, rabbit);
    await take();
    const url = new URL(rabbit.url);
    const proxy = await startProxy(t, { port: Number(url.port) });
    url.port = String(proxy.port);
    const client = clientOf(t, rabbit, { queue, urls: [url.href] });
    const first = ask(client, 'list_machines', { timeoutMs: UNHURRIED_MS });
    await arrived(1);
    answer(0, 'connected');
    await first;
    proxy.swallow();
    const change = ask(client, 'restart_unit', { parameters: UNIT, timeoutMs: UNHURRIED_MS });
    await arrived(2);
    const read = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await arrived(3);
    // This one is lost too: it was not acknowledged, so it arrives over the next connection.
    answer(1, 'done');
    proxy.cut();
    await arrived(4);
    t.is(await change, 'done');
    answer(3, 'read');
    t.is(await read, 'read');
    t.deepEqual(actions(), ['list_machines', 'restart_unit', 'list_units', 'list_units']);
    t.is(taken.length, 4);
  });

  test('RabbitMQ: of what a full queue refuses, only a read may be sent again: the queue may have failed with a change', async (t) => {
    const { queue } = await openQueue(t, rabbit, {
      maxLength: 1,
      arguments: { 'x-overflow': 'reject-publish' },
    });
    const client = clientOf(t, rabbit, { queue });
    const full = new RegExp(`^the queue ${queue} is full, or has failed`);
    for (const [action, code, retryable] of [
      ['restart_unit', 'outcome_unknown', false],
      ['list_units', 'service_unavailable', true],
    ] as const) {
      // RabbitMQ may accept one more than fit.
      const calls = [1, 2, 3].map(async () => failure(t, ask(client, action, { timeoutMs: UNHURRIED_MS })));
      const error = await Promise.race(calls);
      t.like(error, { code, retryable });
      t.regex(error.message, full);
    }
    await client.close();
  });

  test('RabbitMQ: a call to a queue whose name AMQP cannot carry fails immediately', async (t) => {
    const client = clientOf(t, rabbit, { queue: 'q'.repeat(256) });
    for (const action of ['restart_unit', 'list_units'])
      await t.throwsAsync(ask(client, action, { timeoutMs: UNHURRIED_MS }), { name: 'UnpublishableError' });
  });

  test('RabbitMQ: the reply queue has the name that permissions refer to, survives a restart of the broker, and is removed after ten minutes without its client', async (t) => {
    const { queue, channel, take, arrived, answer, replyQueue } = await openQueue(t, rabbit);
    await take();
    const call = ask(clientOf(t, rabbit, { queue }), 'list_units', { timeoutMs: UNHURRIED_MS });
    await arrived(1);
    answer(0, 'done');
    await call;
    t.regex(replyQueue(), /^fleet_manager\.reply\.[-0-9a-f]{36}$/);
    // The broker refuses other options for a queue that exists.
    await t.notThrowsAsync(async () =>
      channel.assertQueue(replyQueue(), { durable: true, expires: 600_000 }),
    );
  });

  test('RabbitMQ: a client whose reply queue is deleted creates another one', async (t) => {
    const { queue, channel, take, arrived, answer, replyQueue } = await openQueue(t, rabbit);
    await take();
    const link = faultyLink(rabbit);
    const client = clientOf(t, rabbit, { queue, connect: link.connect });
    const call = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await arrived(1);
    answer(0, 'done');
    t.is(await call, 'done');
    await channel.deleteQueue(replyQueue());
    await eventually('it is connected again', () => link.counts.made === 2);
    const next = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await arrived(2);
    answer(1, 'next');
    t.is(await next, 'next');
  });
}

/** A client of two brokers, of which the first is preferred, but down until `firstIsUp` is called. */
async function openFailover(t: ExecutionContext) {
  const hosts = { first: new EmbeddedBroker(), second: new EmbeddedBroker() };
  const taken: { [host in keyof typeof hosts]: ConsumeMessage[] } = { first: [], second: [] };
  const answers = new Map<string, (message: ConsumeMessage | undefined, body: unknown) => void>();
  for (const host of ['first', 'second'] as const) {
    const connection = await hosts[host].connect('', {});
    const channel = await connection.createChannel();
    await channel.assertQueue('queue');
    await channel.consume('queue', (message) => message !== null && taken[host].push(message), {
      noAck: true,
    });
    answers.set(host, (message, body) =>
      channel.sendToQueue(
        String(message?.properties.replyTo),
        Buffer.from(JSON.stringify({ status: 'completed', response_body: body })),
        { correlationId: String(message?.properties.correlationId) },
      ),
    );
  }
  let firstIsAway = true;
  let second: ChannelModel | undefined;
  let secondIsClosed = false;
  const clock = new ManualClock();
  const client = new FleetManagerClient({
    queue: 'queue',
    brokers: async () => [
      { url: 'amqp://first.invalid', preferred: true },
      { url: 'amqp://second.invalid', preferred: false },
    ],
    clock,
    connect: async (url, options) => {
      if (new URL(url).hostname === 'first.invalid') {
        if (firstIsAway) throw new Error('it is down');
        return hosts.first.connect(url, options);
      }
      second = await hosts.second.connect(url, options);
      second.on('close', () => (secondIsClosed = true));
      return second;
    },
  });
  t.teardown(async () => client.close());
  return {
    taken,
    answer: (host: keyof typeof hosts, n: number, body: unknown) =>
      answers.get(host)?.(taken[host].at(n), body),
    clock,
    client,
    firstIsUp: () => (firstIsAway = false),
    /** The client's connection. */
    second: () => second,
    secondIsClosed: () => secondIsClosed,
  };
}

test('a failover broker is left only when the calls that wait there have ended', async (t) => {
  const { taken, answer, clock, client, firstIsUp, secondIsClosed } = await openFailover(t);
  const call = ask(client, 'restart_unit', { parameters: UNIT, timeoutMs: UNHURRIED_MS });
  await eventually('it is sent to the second broker', () => taken.second.length === 1);
  firstIsUp();
  await settle();
  clock.advance(10_000);
  const next = await eventually('calls go to the first broker', async () => {
    const later = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
    await settle();
    if (taken.first.length > 0) return { later };
    later.catch(() => {});
    answer('second', -1, 'too early');
    await later;
    clock.advance(10_000);
    return undefined;
  });
  t.false(secondIsClosed());
  answer('second', 0, 'done');
  t.is(await call, 'done');
  await eventually('the second broker is left', secondIsClosed);
  answer('first', 0, 'next');
  t.is(await next.later, 'next');
});

test('a request that waits until the broker accepts messages is sent to the broker that is used then', async (t) => {
  const { taken, answer, clock, client, firstIsUp, second } = await openFailover(t);
  await eventually('it is connected', () => client.problem === undefined);
  second()?.emit('blocked', 'low on memory');
  const call = ask(client, 'restart_unit', { parameters: UNIT, timeoutMs: UNHURRIED_MS });
  firstIsUp();
  await eventually('it uses the first broker', () => {
    clock.advance(10_000);
    return client.problem === undefined;
  });
  second()?.emit('unblocked');
  await eventually('it is sent', () => taken.first.length + taken.second.length === 1);
  t.is(taken.first.length, 1);
  answer('first', 0, 'done');
  t.is(await call, 'done');
});

test('a client that is told that its brokers are others leaves the broker that is not among them', async (t) => {
  const hosts = { first: new EmbeddedBroker(), second: new EmbeddedBroker() };
  for (const host of ['first', 'second'] as const)
    await serveQueue(await hosts[host].connect('', {}), 'queue', host);
  let host: keyof typeof hosts = 'first';
  let firstIsLeft = false;
  const client = new FleetManagerClient({
    queue: 'queue',
    brokers: async () => [{ url: `amqp://${host}.invalid` }],
    connect: async (url, options) => {
      if (new URL(url).hostname === 'second.invalid') return hosts.second.connect(url, options);
      const connection = await hosts.first.connect(url, options);
      connection.on('close', () => (firstIsLeft = true));
      return connection;
    },
  });
  t.teardown(async () => client.close());
  t.is(await ask(client, 'list_units', { timeoutMs: UNHURRIED_MS }), 'first');
  host = 'second';
  client.brokersChanged();
  await eventually('the first broker is left', () => firstIsLeft);
  t.is(await ask(client, 'list_units', { timeoutMs: UNHURRIED_MS }), 'second');
});

for (const operation of ['assertQueue', 'consume'] as const)
  test(`a client whose reply queue is refused (${operation}) says so, and tries again`, async (t) => {
    let isRefused = true;
    const { broker } = changedChannels((channel) => {
      const allowed: (...given: never[]) => Promise<unknown> = channel[operation].bind(channel);
      Object.assign(channel, {
        [operation]: async (...given: never[]) => {
          if (isRefused) throw new Error('ACCESS_REFUSED - no access to the reply queue');
          return allowed(...given);
        },
      });
    });
    const clock = new ManualClock();
    const client = clientOf(t, broker, { clock });
    await eventually('it knows', () => client.problem?.includes('no access to the reply queue') === true);
    isRefused = false;
    await eventually('it is connected', () => {
      clock.advance(1_000);
      return client.problem === undefined;
    });
    t.is(client.problem, undefined);
  });

test('a client that may not send requests says so until it may, and then tries each new connection first', async (t) => {
  const embedded = new EmbeddedBroker();
  let isRefused = true;
  const refusing: Connect = async (url, options) => {
    const connection = await embedded.connect(url, options);
    const createConfirmChannel = connection.createConfirmChannel.bind(connection);
    connection.createConfirmChannel = async () => {
      const channel = await createConfirmChannel();
      const publish = channel.publish.bind(channel);
      channel.publish = (...message) => {
        if (!isRefused) return publish(...message);
        return channel.emit('error', Object.assign(new Error('ACCESS_REFUSED - no'), { code: 403 }));
      };
      return channel;
    };
    return connection;
  };
  const url = 'amqp://embedded.invalid';
  const link = faultyLink({
    name: 'refusing',
    url,
    connect: refusing,
    open: () => embedded.connect(url, {}),
  });
  const clock = new ManualClock();
  const { log, find } = logLines();
  const client = new FleetManagerClient({ urls: [url], connect: link.connect, clock, log });
  t.teardown(async () => client.close());
  await eventually('it is connected', () => client.problem === undefined);
  const refusal = await failure(t, ask(client, 'restart_unit', { timeoutMs: UNHURRIED_MS }));
  t.like(refusal, {
    code: 'service_unavailable',
    message: 'the broker refuses requests: ACCESS_REFUSED - no',
  });
  t.is(client.problem, 'the broker refuses requests: ACCESS_REFUSED - no (it lacks the write permission)');
  t.is(find(/^requests refused$/).length, 1);
  isRefused = false;
  const accepted = async () =>
    eventually('it is accepted', () => {
      clock.advance(1_000);
      return client.problem === undefined;
    });
  await accepted();
  t.is(find(/^requests no longer refused$/).length, 1);
  link.withholdConfirms();
  link.cut();
  await eventually('there is a new connection', () => {
    clock.advance(100);
    return link.counts.withheld === 1 || client.problem === undefined;
  });
  await settle();
  t.not(client.problem, undefined, 'it is not used before a message was accepted');
  link.passConfirms();
  await accepted();
});

test('a reply that is read after its connection was lost is left for the next connection', async (t) => {
  const deliver: ((message: ConsumeMessage | null) => void)[] = [];
  const { broker, current } = changedChannels((channel) => {
    const consume = channel.consume.bind(channel);
    channel.consume = async (queue, onMessage, options) => {
      deliver.push(onMessage);
      return consume(queue, onMessage, options);
    };
  });
  const { queue, take, arrived, answer, taken } = await openQueue(t, broker);
  await take();
  const client = clientOf(t, broker, { queue });
  const call = ask(client, 'list_units', { timeoutMs: UNHURRIED_MS });
  await arrived(1);
  const lost = current();
  lost?.emit('close', new Error('cut by the test'));
  const reply = JSON.stringify({ status: 'completed', response_body: 'early' });
  const { correlationId } = taken[0]?.properties ?? {};
  const message = { content: Buffer.from(reply), properties: { correlationId }, fields: {} };
  deliver.at(-1)?.(message as ConsumeMessage);
  await eventually('it is connected again', () => current() !== lost);
  answer(0, 'again');
  t.is(await call, 'again');
});

test('closing waits a second for the broker to remove the reply queue', async (t) => {
  const asked: string[] = [];
  const { broker } = changedChannels((channel) => {
    channel.deleteQueue = async (queue) => {
      asked.push(queue);
      return new Promise(() => {});
    };
  });
  const clock = new ManualClock();
  const client = new FleetManagerClient({ urls: [broker.url], connect: broker.connect, clock });
  await eventually('it is connected', () => client.problem === undefined);
  const closed = client.close();
  const isClosed = settledOf(closed);
  await eventually('the broker is asked', () => asked.length === 1);
  clock.advance(999);
  await settle();
  t.false(isClosed());
  clock.advance(1);
  await settle();
  t.true(isClosed());
  await closed;
});

test('a client calls the queue fleet_manager by default', async (t) => {
  const embedded = new EmbeddedBroker();
  const connection = await embedded.connect('', {});
  await serveQueue(connection, 'fleet_manager', 'done');
  const client = new FleetManagerClient({ urls: ['amqp://any.invalid'], connect: embedded.connect });
  t.teardown(async () => client.close());
  t.is(await ask(client, 'list_units', { timeoutMs: UNHURRIED_MS }), 'done');
});

test('the reply to a call that has ended is not kept', async (t) => {
  const embedded = new EmbeddedBroker();
  await serveQueue(await embedded.connect('', {}), 'queue', 'done');
  const client = new FleetManagerClient({
    urls: ['amqp://any.invalid'],
    queue: 'queue',
    connect: embedded.connect,
  });
  t.teardown(async () => client.close());
  const ended = async () => new WeakRef(await client.request('list_units', { timeoutMs: UNHURRIED_MS }));
  const reply = await ended();
  await eventually('it is freed', () => {
    collectGarbage();
    return reply.deref() === undefined;
  });
  t.is(reply.deref(), undefined);
});

test('a call may wait from a millisecond to a day', async (t) => {
  const clock = new ManualClock();
  const client = new FleetManagerClient({ brokers: async () => [], clock });
  t.teardown(async () => client.close());
  for (const timeoutMs of [1, 1.5, 86_400_000]) {
    const call = failure(t, ask(client, 'list_units', { timeoutMs }));
    const settled = settledOf(call);
    clock.advance(timeoutMs + 1_999);
    await settle();
    t.false(settled());
    clock.advance(1);
    t.is((await call).code, 'service_unavailable');
  }
  for (const timeoutMs of [0.5, 86_400_001])
    await t.throwsAsync(ask(client, 'list_units', { timeoutMs }), { instanceOf: RangeError });
});
