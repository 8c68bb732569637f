import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import type { ChannelModel, ConsumeMessage, Options as Amqp } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import { brokers, embeddedBroker, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { StandInManager } from '../support/stand-in-manager.js';
import { warningsDuring } from '../support/warnings.js';
import { timePassing } from '../openaperture/open-manager.js';
import { collectGarbage } from '../support/collect-garbage.js';

const RECORDS = /^\/messaging\/rpc_requests$/;
const RECORD = /^\/messaging\/rpc_requests\/\d+$/;
const ROUTING_KEY = 'root.fragment7';
/** Longer than any test takes. */
const LONG_MS = 3_600_000;
const UNIT = { unit_name: 'a.service' };

/** A request as a service gets it from its queue. */
interface Taken {
  id: number | bigint;
  message: ConsumeMessage;
}

interface Options {
  without?: 'exchange' | 'queue';
  /** The arguments of the queue. */
  queueOptions?: Amqp.AssertQueue;
  connect?: Connect;
  encoding?: 'erlang' | 'json';
}

/** An installation with a manual clock, and a client in it; the test acts as the service. */
async function openRoute(
  t: ExecutionContext,
  broker: TestBroker,
  { without, encoding, queueOptions, connect = broker.connect }: Options = {},
) {
  const clock = new ManualClock();
  const manager = await StandInManager.start(t, { clock });
  const [exchange, queue] = [`exchange_${randomUUID()}`, `queue_${randomUUID()}`];
  manager.addExchange(7, { rootExchangeName: exchange, routingKey: ROUTING_KEY });
  manager.addBroker(3, {
    connections: [{ host: '127.0.0.1', port: Number(new URL(broker.url).port) || null }],
  });
  const connection = await broker.open();
  const taken: Taken[] = [];
  if (without !== 'exchange')
    await prepare(connection, exchange, without === 'queue' ? undefined : queue, taken, queueOptions);
  const client = new FleetManagerClient({
    queue,
    manager: { ...optionsOf(manager), encoding },
    connect,
    clock,
  });
  /** A broker that takes long to close is waited for by the manual clock. */
  const close = async () => {
    const closed = client.close();
    await eventually('the client is closed', async () => {
      clock.advance(1_000);
      return Promise.race([closed.then(() => true), new Promise(setImmediate)]);
    });
  };
  t.teardown(async () => {
    clock.advance(60_000);
    await close();
    const channel = await connection.createChannel();
    // A missing object closes the channel of the embedded broker.
    await channel
      .deleteExchange(exchange)
      .then(() => channel.deleteQueue(queue))
      .catch(() => {});
    await connection.close();
  });
  /** Replies to a request as the service does. */
  const answer = (id: number | bigint, responseBody: unknown, status = 'completed') =>
    manager.addRecord(id, { status, responseBody });
  return { manager, client, clock, close, taken, answer, exchange, queue, ...timePassing(clock) };
}

function optionsOf({ url, oauthUrl, clientId, clientSecret }: StandInManager) {
  return { managerUrl: url, oauth: { url: oauthUrl, clientId, clientSecret }, exchangeId: 7, brokerId: 3 };
}

/** Creates what an installation has on its brokers beforehand, and consumes the queue. */
async function prepare(
  connection: ChannelModel,
  exchange: string,
  queue: string | undefined,
  taken: Taken[],
  queueOptions?: Amqp.AssertQueue,
) {
  const channel = await connection.createChannel();
  await channel.assertExchange(exchange, 'topic', { durable: true });
  if (queue === undefined) return;
  await channel.assertQueue(queue, { durable: true, ...queueOptions });
  await channel.bindQueue(queue, exchange, `${ROUTING_KEY}.${queue}`);
  // A queue that must fill up is not consumed.
  if (queueOptions !== undefined) return;
  const codecs = new Codecs([jsonCodec, new ErlangCodec()]);
  const take = (message: ConsumeMessage | null) => {
    if (message === null) return;
    const { id } = codecs.of(message.content, undefined).decode(message.content) as Pick<Taken, 'id'>;
    taken.push({ id, message });
  };
  await channel.consume(queue, take, { noAck: true });
}

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

async function failure(t: ExecutionContext, call: Promise<unknown>): Promise<FleetManagerError> {
  return t.throwsAsync(call, { instanceOf: FleetManagerError });
}

for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test.serial(over('a call gets its reply from its record, which is then deleted'), async (t) => {
    const { client, manager, taken, answer, whileTimePasses, until } = await openRoute(t, broker);
    const call = client.call('list_machines', { cluster: 'token' });
    await eventually('it is published', () => taken.length === 1);
    const { deliveryMode, ...properties } = taken[0]?.message.properties ?? {};
    // The embedded broker gives properties as they were set.
    t.true(deliveryMode === 2 || Reflect.get(properties, 'persistent') === true);
    answer(taken[0]?.id ?? 0, []);
    t.deepEqual(await whileTimePasses(call, 'unhurried'), []);
    await until('its record is deleted', () => manager.records.size === 0);
    const request = client.request('list_machines', { timeoutMs: LONG_MS });
    await eventually('it is published', () => taken.length === 2);
    const refusal = { errors: ['no'], code: 'forbidden' };
    answer(taken[1]?.id ?? 0, refusal, 'error');
    const reply = await whileTimePasses(request, 'unhurried');
    t.deepEqual(reply, { id: taken[1]?.id, status: 'error', response_body: refusal });
  });

  test.serial(
    over('a request in JSON is a whole envelope, with every digit of the id of its record'),
    async (t) => {
      const { client, manager, taken } = await openRoute(t, broker, { encoding: 'json' });
      manager.nextRecordId = 9_007_199_254_740_993n;
      void client.call('list_machines').catch(() => {});
      await eventually('it is published', () => taken.length === 1);
      t.is(taken[0]?.id, 9_007_199_254_740_993n);
      const content = taken[0]?.message.content.toString() ?? '';
      t.regex(content, /"id":9007199254740993,/);
      t.deepEqual(
        { ...JSON.parse(content), id: null },
        {
          queue_name: '',
          id: null,
          status: 'not_started',
          request_body: { action: 'list_machines', action_parameters: null },
          response_body: null,
        },
      );
    },
  );

  test.serial(over('a request carries the idempotency key that it is given'), async (t) => {
    const { client, taken } = await openRoute(t, broker);
    void client.call('restart_unit', { idempotencyKey: 'k 1' }).catch(() => {});
    await eventually('it is published', () => taken.length === 1);
    t.is(taken[0]?.message.properties.headers?.['idempotency-key'], '"k 1"');
  });

  test.serial(over('a request carries the trace that it is given, and nothing else with it'), async (t) => {
    const { client, taken } = await openRoute(t, broker);
    const trace = { traceparent: TRACEPARENT, tracestate: 'a=1', 'x-caller': 'root' };
    void client.call('list_machines', { trace }).catch(() => {});
    void client.call('list_units', { trace: { traceparent: 'none' } }).catch(() => {});
    await eventually('they are published', () => taken.length === 2);
    const headers = taken.map(({ message }) => {
      const { 'timeout-ms': _, ...others } = message.properties.headers ?? {};
      return others;
    });
    t.like(
      headers.find(({ traceparent }) => traceparent === TRACEPARENT),
      { tracestate: 'a=1' },
    );
    const names = headers.flatMap((each) => Object.keys(each));
    t.deepEqual(new Set(names), new Set(['traceparent', 'tracestate']));
    t.is(names.length, 2);
  });

  for (const leftMs of [3_000, 1])
    test.serial(
      over(`a request with ${leftMs} ms left when it is published carries that time`),
      async (t) => {
        const { client, manager, clock, taken } = await openRoute(t, broker);
        const release = manager.hold(RECORDS);
        void client.call('list_machines', { timeoutMs: 5_000 }).catch(() => {});
        await eventually('its record is being made', () => manager.callsTo(RECORDS).length === 1);
        clock.advance(5_000 - leftMs);
        release();
        await eventually('it is published', () => taken.length === 1);
        t.is(taken[0]?.message.properties.headers?.['timeout-ms'], leftMs);
      },
    );

  test.serial(over('a request whose time has passed before it can be published is not sent'), async (t) => {
    const { client, manager, clock, taken } = await openRoute(t, broker);
    const release = manager.hold(RECORDS);
    const failed = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: 5_000 }));
    await eventually('its record is being made', () => manager.callsTo(RECORDS).length === 1);
    clock.advance(6_000);
    release();
    t.like(await failed, { code: 'timeout', message: 'the request could not be sent within 5000 ms' });
    await eventually('its record is deleted', () => manager.records.size === 0);
    t.is(taken.length, 0);
  });

  test.serial(over('a request is not sent while the broker accepts no messages'), async (t) => {
    const connections: ChannelModel[] = [];
    const connect: Connect = async (url, options) => {
      const connection = await broker.connect(url, options);
      connections.push(connection);
      return connection;
    };
    const { client, close, manager, clock, taken } = await openRoute(t, broker, { connect });
    await eventually('it is connected', () => client.problem === undefined);
    connections[0]?.emit('blocked', 'low on memory');
    const late = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: 1_000 }));
    const inTime = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: LONG_MS }));
    await eventually('their records are made', () => manager.records.size === 2);
    clock.advance(4_000);
    t.like(await late, {
      code: 'service_unavailable',
      message: 'the broker accepts no messages: low on memory',
    });
    connections[0]?.emit('unblocked');
    await eventually('one is published', () => taken.length > 0);
    await close();
    t.is((await inTime).code, 'outcome_unknown');
    t.is(taken.length, 1);
  });

  test.serial(over('a request whose call has ended before it could be written is not sent'), async (t) => {
    const link = faultyLink(broker);
    const { client, close, manager, taken } = await openRoute(t, broker, link);
    await eventually('it is connected', () => client.problem === undefined);
    link.withholdConfirms();
    const release = link.holdChannels();
    // The first one keeps the channel that is there.
    const calls = [failure(t, client.call('act', { parameters: UNIT, timeoutMs: LONG_MS }))];
    await eventually('the first is published', () => taken.length === 1);
    const leaving = new AbortController();
    const parameters = { ...UNIT, padding: 'x'.repeat(1_000) };
    const { signal } = leaving;
    const aborted = client.call('restart_unit', { parameters, signal, timeoutMs: LONG_MS });
    await eventually('its record is made', () => manager.records.size === 2);
    leaving.abort(new Error('enough'));
    await t.throwsAsync(aborted, { message: 'enough' });
    link.passConfirms();
    release();
    calls.push(failure(t, client.call('list_machines', { timeoutMs: LONG_MS })));
    await eventually('the next is published', () => taken.some(({ id }) => Number(id) === 3));
    await close();
    await Promise.all(calls);
    t.deepEqual(
      taken.map(({ id }) => Number(id)),
      [1, 3],
    );
  });

  for (const [what, action, again] of [
    ['a change is not', 'restart_unit', 0],
    ['a read is', 'list_units', 2],
  ] as const)
    test.serial(
      over(`${what} sent again when the broker closes its channel over another message`),
      async (t) => {
        const link = faultyLink(broker);
        const { client, taken, answer, whileTimePasses } = await openRoute(t, broker, {
          connect: link.connect,
        });
        const ask = async (name: string, parameters = {}): Promise<unknown> =>
          client.call(name, { parameters, timeoutMs: LONG_MS });
        // Messages share a channel when the broker has accepted a larger one.
        const first = ask('of_a_plugin', { padding: 'x'.repeat(100) });
        await eventually('the first is published', () => taken.length === 1);
        answer(taken[0]?.id ?? 0, []);
        await whileTimePasses(first, 'unhurried');
        link.withholdConfirms();
        const calls = [1, 2].map(async () => ask(action));
        await eventually('both are published', () => taken.length === 3 && link.counts.withheld === 2);
        link.passConfirms();
        link.refuseWithheld();
        await eventually('what may be is sent again', () => taken.length >= 3 + again);
        const next = ask('list_machines');
        await eventually('the next is published', () => taken.length > 3 + again);
        t.is(taken.length, 4 + again);
        for (const { id } of taken.slice(1)) answer(id, []);
        await whileTimePasses(Promise.all([...calls, next]), 'unhurried');
        t.is(new Set(taken.map(({ id }) => id)).size, 4);
      },
    );

  test.serial(over('a call without a reply ends at its deadline, and leaves no record'), async (t) => {
    const { client, manager, clock, taken, until } = await openRoute(t, broker);
    const begun = clock.now();
    const failed = failure(t, client.call('list_machines', { timeoutMs: 5_000 }));
    let done = false;
    void failed.then(() => (done = true));
    await eventually('it is published', () => taken.length === 1);
    await until('it ends', () => done);
    t.like(await failed, { code: 'timeout', message: 'no reply within 5000 ms' });
    t.true(clock.now() - begun >= 5_000 && clock.now() - begun < 10_000);
    await until('its record is deleted', () => manager.records.size === 0);
  });

  test.serial(over('an aborted call rejects with the reason, and leaves no record'), async (t) => {
    const { client, manager, taken } = await openRoute(t, broker);
    const leaving = new AbortController();
    const call = client.call('list_machines', { signal: leaving.signal });
    await eventually('it is published', () => taken.length === 1);
    leaving.abort(new Error('enough'));
    await t.throwsAsync(call, { message: 'enough' });
    await eventually('its record is deleted', () => manager.records.size === 0);
    await t.throwsAsync(client.call('list_machines', { signal: leaving.signal }), { message: 'enough' });
    t.is(manager.callsTo(RECORDS).length, 1);
  });

  test.serial(over('closing a client fails pending calls, and leaves no record'), async (t) => {
    const { client, manager, taken } = await openRoute(t, broker);
    const calls = Promise.all([1, 2].map(() => failure(t, client.call('list_machines'))));
    await eventually('they are published', () => taken.length === 2);
    await client.close();
    t.deepEqual(
      (await calls).map(({ code }) => code),
      ['cancelled', 'cancelled'],
    );
    t.is(manager.records.size, 0);
    t.is((await failure(t, client.call('list_machines'))).code, 'cancelled');
  });

  test.serial(
    over('only closing the client waits for the deletion of a record, and not for long'),
    async (t) => {
      const { client, manager, taken, answer, whileTimePasses, clock } = await openRoute(t, broker);
      const releases = [1, 2].map((id) =>
        manager.hold(new RegExp(`^/messaging/rpc_requests/${id}$`), 'DELETE'),
      );
      const calls = [1, 2].map(() => client.call('list_machines'));
      await eventually('they are published', () => taken.length === 2);
      for (const { id } of taken) answer(id, []);
      await whileTimePasses(Promise.all(calls), 100);
      await eventually('the records are being deleted', () => manager.callsTo(RECORD, 'DELETE').length === 2);
      let closed = false;
      const closing = client.close().then(() => (closed = true));
      releases[0]?.();
      await eventually('one is deleted', () => manager.records.size === 1);
      clock.advance(2_000);
      await new Promise(setImmediate);
      t.false(closed);
      clock.advance(1_000);
      await closing;
      releases[1]?.();
    },
  );

  test.serial(
    over('an exchange that the broker does not have is reported, and leaves no record'),
    async (t) => {
      const { client, manager, exchange } = await openRoute(t, broker, { without: 'exchange' });
      const error = await failure(t, client.call('list_machines'));
      t.is(error.code, 'service_unavailable');
      t.true(error.message.startsWith(`the broker refuses requests: NOT_FOUND - no exchange '${exchange}'`));
      await eventually('its record is deleted', () => manager.records.size === 0);
    },
  );

  if (broker.name === 'RabbitMQ') {
    test.serial(over('an unbound queue is reported, and leaves no record'), async (t) => {
      const { client, manager, exchange, queue } = await openRoute(t, broker, { without: 'queue' });
      const error = await failure(t, client.call('list_machines'));
      t.like(error, {
        code: 'service_unavailable',
        message: `no queue is bound to ${exchange} with the routing key ${ROUTING_KEY}.${queue}`,
      });
      await eventually('its record is deleted', () => manager.records.size === 0);
    });

    test.serial(over('a read that a full queue refuses may be sent again'), async (t) => {
      const queueOptions = { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } };
      const { client, clock, manager, queue } = await openRoute(t, broker, { queueOptions });
      const calls = [1, 2, 3].map(async () => failure(t, client.call('list_units', { timeoutMs: 5_000 })));
      // The queue accepts at least one, and refuses at least one.
      const refused = await Promise.race(calls);
      t.like(refused, { code: 'service_unavailable', retryable: true });
      t.regex(refused.message, new RegExp(`is full, or has failed: ${queue}, or another`));
      await eventually('the record of what was refused is deleted', () => manager.records.size < 3);
      clock.advance(8_000);
      await Promise.all(calls);
    });
  }

  test.serial(over('any number of calls may share one signal'), async (t) => {
    const { client, taken, answer, whileTimePasses, until } = await openRoute(t, broker);
    const { signal } = new AbortController();
    const warnings = await warningsDuring(async () => {
      const calls = Array.from({ length: 20 }, () => client.call('list_machines', { signal }));
      // A busy machine responds slowly to this many concurrent requests: failed ones are tried again as time passes.
      await until('they are published', () => taken.length === 20, 'unhurried');
      for (const { id } of taken) answer(id, []);
      await whileTimePasses(Promise.all(calls), 'unhurried');
    });
    t.deepEqual(warnings, []);
    t.is(getEventListeners(signal, 'abort').length, 0);
  });

  test.serial(
    over('a change whose reply cannot be read has an unknown outcome, and must not be tried again'),
    async (t) => {
      const { client, manager, taken, whileTimePasses } = await openRoute(t, broker);
      for (const [fault, reason] of [
        [{ status: 400, path: RECORD, method: 'GET' }, /HTTP status 400.*may or may not have run/],
        [{ status: 404, path: RECORD, method: 'GET' }, /HTTP status 404.*may or may not have run/],
      ] as const) {
        const end = manager.fail(fault);
        const change = await failure(
          t,
          whileTimePasses(client.call('restart_unit', { parameters: UNIT, timeoutMs: LONG_MS }), 'unhurried'),
        );
        t.like(change, { code: 'outcome_unknown', retryable: false });
        t.regex(change.message, reason);
        const read = await failure(
          t,
          whileTimePasses(client.call('list_units', { resend: true, timeoutMs: LONG_MS }), 'unhurried'),
        );
        t.like(read, { code: 'service_unavailable', retryable: true });
        end();
      }
      // A message may be delivered a moment after it was confirmed.
      await eventually('each request is delivered', () => taken.length >= 4);
      t.is(taken.length, 4);
    },
  );

  for (const [what, action, resend, sent] of [
    ['a change', 'restart_unit', undefined, 1],
    ['a read that is not to be sent again', 'list_units', false, 1],
    ['a read', 'list_units', undefined, 2],
    ['an action that may be sent again', 'of_a_plugin', true, 2],
  ] as const) {
    const times = sent === 1 ? 'once' : 'twice';
    test.serial(
      over(`${what} is sent ${times} when the connection is lost before its confirmation`),
      async (t) => {
        const link = faultyLink(broker);
        const { client, taken, answer, whileTimePasses, until } = await openRoute(t, broker, link);
        const ask = async (name: string): Promise<unknown> =>
          client.call(name, { timeoutMs: LONG_MS, ...(name === action && { resend }) });
        link.withholdConfirms();
        const call = ask(action);
        await eventually('it is published', () => taken.length === 1);
        link.passConfirms();
        link.cut();
        await until('it is connected again', () => link.counts.made === 2, 'unhurried');
        const next = ask('list_machines');
        await until('the next is published', () => taken.length >= sent + 1, 'unhurried');
        answer(1, 'done');
        answer(2, 'next');
        t.is(await whileTimePasses(call, 'unhurried'), 'done');
        t.is(await whileTimePasses(next, 'unhurried'), 'next');
        const last = ask('list_machines');
        await until('the last is published', () => taken.some(({ id }) => Number(id) === 3), 'unhurried');
        answer(3, 'last');
        t.is(await whileTimePasses(last, 'unhurried'), 'last');
        // Sent again, a request has the same record.
        t.deepEqual(
          taken.map(({ id }) => Number(id)).toSorted((a, b) => a - b),
          [...Array<number>(sent).fill(1), 2, 3],
        );
      },
    );
  }

  test.serial(
    over('a call whose request is not confirmed can be aborted, and ends at its deadline'),
    async (t) => {
      const link = faultyLink(broker);
      const { client, clock, manager, taken } = await openRoute(t, broker, link);
      link.withholdConfirms();
      const leaving = new AbortController();
      const left = client.call('restart_unit', { parameters: UNIT, signal: leaving.signal });
      const late = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: 5_000 }));
      await eventually('they are published', () => taken.length === 2);
      leaving.abort(new Error('enough'));
      await t.throwsAsync(left, { message: 'enough' });
      await eventually('its record is deleted', () => manager.records.size === 1);
      clock.advance(8_000);
      t.is((await late).code, 'outcome_unknown');
    },
  );

  test.serial(
    over('a change is sent over the next connection when this one is lost before it was sent'),
    async (t) => {
      const link = faultyLink(broker);
      const { client, taken, answer, whileTimePasses, until } = await openRoute(t, broker, link);
      link.withholdConfirms();
      // It keeps the channel that is open for messages of unsure size, so that the next one needs a new channel.
      const first = client.call('act', { timeoutMs: LONG_MS });
      first.catch(() => {});
      await eventually('it is published', () => taken.length === 1);
      link.cutAtNextChannel();
      link.passConfirms();
      const parameters = { ...UNIT, padding: 'x'.repeat(1_000) };
      const change: Promise<unknown> = client.call('restart_unit', { parameters, timeoutMs: LONG_MS });
      await until('it is published', () => taken.length === 2, 'unhurried');
      t.is(link.counts.made, 2);
      answer(2, 'done');
      t.is(await whileTimePasses(change, 'unhurried'), 'done');
      t.is(taken.length, 2);
    },
  );

  test.serial(
    over('a change that a queue refused may have come to another one, so its reply is awaited'),
    async (t) => {
      const link = faultyLink(broker);
      const { client, clock, manager, taken, until } = await openRoute(t, broker, link);
      link.refuseAndCut();
      const call = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: LONG_MS }));
      await eventually('a queue has refused it', () => link.counts.refused === 1);
      const next = failure(t, client.call('list_machines', { timeoutMs: LONG_MS }));
      await until('another request is published', () => taken.length > 0, 'unhurried');
      t.is(manager.records.size, 2);
      clock.advance(LONG_MS + 60_000);
      t.is((await call).code, 'outcome_unknown');
      await next;
      t.deepEqual(
        taken.map(({ id }) => Number(id)),
        [2],
      );
    },
  );

  test.serial(
    over('a read that a queue refused fails, and is not sent again when the connection is lost'),
    async (t) => {
      const link = faultyLink(broker);
      const { client, taken, until, whileTimePasses } = await openRoute(t, broker, link);
      link.refuseAndCut();
      const read = failure(t, client.call('list_units', { timeoutMs: LONG_MS }));
      const { code, message } = await whileTimePasses(read, 'unhurried');
      t.is(code, 'service_unavailable');
      t.regex(message, /^a queue of the exchange \S+ is full, or has failed: /);
      const next = failure(t, client.call('list_machines', { timeoutMs: LONG_MS }));
      await until('the next is published', () => taken.length > 0, 'unhurried');
      t.deepEqual(
        taken.map(({ id }) => Number(id)),
        [2],
      );
      await client.close();
      t.is((await next).code, 'cancelled');
    },
  );

  test.serial(
    over('a change that was sent and got no reply has an unknown outcome; a read is late'),
    async (t) => {
      const { client, clock, taken } = await openRoute(t, broker);
      const ends: string[] = [];
      const calls = ['restart_unit', 'list_units'].map(async (action) => {
        const error = await failure(t, client.call(action, { timeoutMs: 5_000 }));
        ends.push(action);
        return error;
      });
      await eventually('they are published', () => taken.length === 2);
      // Three seconds more than the service has: its own timeout error may be on its way to the record.
      clock.advance(7_999);
      await new Promise(setImmediate);
      t.deepEqual(ends, []);
      clock.advance(1);
      const [change, read] = await Promise.all(calls);
      t.like(change, { code: 'outcome_unknown', retryable: false });
      t.regex(
        String(change?.message),
        /^no reply within 5000 ms; the request was sent, so the action may or may not/,
      );
      t.like(read, { code: 'timeout', message: 'no reply within 5000 ms' });
    },
  );

  test.serial(over('a change that could not be sent in time is reported as not done'), async (t) => {
    const link = faultyLink(broker);
    const release = link.hold();
    const { client, clock, manager, taken, answer, whileTimePasses, until } = await openRoute(
      t,
      broker,
      link,
    );
    const early = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: 1_000 }));
    await eventually('its record is made', () => manager.records.size === 1);
    clock.advance(4_000);
    t.like(await early, {
      code: 'service_unavailable',
      message: 'no connection to a broker: not connected yet',
      retryable: true,
    });
    release();
    // After a call there is a connection.
    const first = client.call('list_machines', { timeoutMs: LONG_MS });
    await until('it is published', () => taken.length === 1, 'unhurried');
    answer(2, []);
    await whileTimePasses(first, 'unhurried');
    const finishRun = manager.hold(RECORDS);
    const late = failure(t, client.call('restart_unit', { parameters: UNIT, timeoutMs: 1_000 }));
    await eventually('a record is asked for', () => manager.callsTo(RECORDS).length === 3);
    clock.advance(4_000);
    const { code, message } = await late;
    finishRun();
    t.is(message, 'the request could not be sent within 1000 ms');
    t.is(code, 'timeout');
    t.is(taken.length, 1);
  });

  test.serial(over('closing says of each call whether it may be done, and leaves no record'), async (t) => {
    const link = faultyLink(broker);
    const { client, clock, manager, taken } = await openRoute(t, broker, link);
    const calls = [
      failure(t, client.call('restart_unit', { parameters: UNIT })),
      failure(t, client.call('list_units')),
    ];
    await eventually('they are published', () => taken.length === 2);
    const finishRun = manager.hold(RECORDS);
    calls.push(failure(t, client.call('restart_unit', { parameters: UNIT })));
    await eventually('a record is asked for', () => manager.callsTo(RECORDS).length === 3);
    const closed = client.close();
    const errors = await Promise.all(calls);
    finishRun();
    await closed;
    t.is(link.counts.open, 0);
    t.deepEqual(
      errors.map(({ code }) => code),
      ['outcome_unknown', 'cancelled', 'cancelled'],
    );
    t.regex(
      errors[0]?.message ?? '',
      /^the client was closed; the request was sent, so the action may or may not/,
    );
    t.false(manager.records.has('1') || manager.records.has('2'));
    t.is(taken.length, 2);
    t.is(clock.pending, 0);
  });

  test.serial(over('however a call ends, its signal keeps no listener'), async (t) => {
    const { client, clock, taken, answer, whileTimePasses } = await openRoute(t, broker);
    const { signal } = new AbortController();
    const calls = [1, 2, 3].map(() => client.call('list_machines', { signal }));
    await eventually('they are published', () => taken.length === 3);
    t.is(getEventListeners(signal, 'abort').length, 3);
    answer(1, []);
    answer(2, { errors: ['no'], code: 'forbidden' }, 'error');
    await whileTimePasses(Promise.allSettled(calls.slice(0, 2)), 'unhurried');
    clock.advance(40_000);
    await t.throwsAsync(async () => calls[2]);
    t.is(getEventListeners(signal, 'abort').length, 0);
    t.is(
      (await failure(t, client.call('act', { parameters: { f: () => {} }, signal }))).code,
      'invalid_request',
    );
    t.is(getEventListeners(signal, 'abort').length, 0);
  });

  test.serial(over('unexpected responses to polls change nothing'), async (t) => {
    const { client, manager, taken, answer, whileTimePasses } = await openRoute(t, broker);
    for (const status of [200, 403, 404]) {
      const body = '<html>We are back soon</html>';
      manager.fail({ status, body, path: RECORD, method: 'GET', times: 1 });
    }
    const call = client.call('restart_unit', { parameters: { unit_name: 'a.service' } });
    await eventually('it is published', () => taken.length === 1);
    answer(taken[0]?.id ?? 0, 'done');
    t.is(await whileTimePasses(call, 'unhurried'), 'done');
  });

  test.serial(over('a request without a record is not sent, and can be tried again'), async (t) => {
    const { client, manager, taken, whileTimePasses } = await openRoute(t, broker);
    manager.fail({ status: 400, path: RECORDS });
    const error = await failure(
      t,
      whileTimePasses(client.call('restart_unit', { parameters: UNIT, timeoutMs: LONG_MS }), 'unhurried'),
    );
    t.like(error, { code: 'service_unavailable', retryable: true });
    t.is(taken.length, 0);
  });

  for (const [what, action, parameters] of [
    ['an action that is no atom', 'a'.repeat(256), {}],
    ['a parameter whose name is no atom', 'act', { ['a'.repeat(256)]: 1 }],
    ['a parameter that is no data', 'act', { f: () => {} }],
  ] as const) {
    test.serial(over(`${what} is refused before a record is made`), async (t) => {
      const { client, manager } = await openRoute(t, broker);
      const error = await failure(t, client.call(action, { parameters }));
      t.like(error, { code: 'invalid_request', fault: 'caller' });
      t.is(manager.callsTo(RECORDS).length, 0);
    });
  }
}

test('the reply to a call that has ended is not kept', async (t) => {
  const { client, taken, answer, whileTimePasses } = await openRoute(t, embeddedBroker());
  const ended = async () => {
    const request = client.request('list_machines', { timeoutMs: LONG_MS });
    await eventually('it is published', () => taken.length === 1);
    answer(1, []);
    return new WeakRef(await whileTimePasses(request, 'unhurried'));
  };
  const reply = await ended();
  await eventually('it is freed', () => {
    collectGarbage();
    return reply.deref() === undefined;
  });
  t.is(reply.deref(), undefined);
});

test('when the connection is lost, the Manager is queried again for the address of the broker', async (t) => {
  const hosts = { first: new EmbeddedBroker(), second: new EmbeddedBroker() };
  const clock = new ManualClock();
  const manager = await StandInManager.start(t, { clock });
  manager.addExchange(7, { rootExchangeName: 'exchange', routingKey: ROUTING_KEY });
  manager.addBroker(3, { connections: [{ host: 'first' }] });
  const taken: Taken[] = [];
  for (const each of Object.values(hosts))
    await prepare(await each.connect('', {}), 'exchange', 'queue', taken);
  const connected: string[] = [];
  const made: ChannelModel[] = [];
  const client = new FleetManagerClient({
    queue: 'queue',
    manager: optionsOf(manager),
    clock,
    connect: async (url, options) => {
      const { hostname } = new URL(url);
      connected.push(hostname);
      const broker = hostname === 'first' ? hosts.first : hosts.second;
      const connection = await broker.connect(url, options);
      made.push(connection);
      return connection;
    },
  });
  t.teardown(() => client.close());
  const { whileTimePasses, until } = timePassing(clock);
  const call = client.call('list_units', { timeoutMs: LONG_MS });
  await eventually('it is published', () => taken.length === 1);
  manager.addRecord(1, { status: 'completed', responseBody: [] });
  await whileTimePasses(call, 'unhurried');
  manager.addBroker(3, { connections: [{ host: 'second' }] });
  await made[0]?.close();
  await until('it is connected again', () => connected.length === 2, 'unhurried');
  t.deepEqual(connected, ['first', 'second']);
});

test('a request that is being published when the preferred broker is back is not interrupted', async (t) => {
  const hosts = { first: new EmbeddedBroker(), second: new EmbeddedBroker() };
  const clock = new ManualClock();
  const manager = await StandInManager.start(t, { clock });
  manager.addExchange(7, { rootExchangeName: 'exchange', routingKey: ROUTING_KEY });
  manager.addBroker(3, { connections: [{ host: 'first' }], failoverBrokerId: 4 });
  manager.addBroker(4, { connections: [{ host: 'second' }] });
  const taken: Taken[] = [];
  for (const each of Object.values(hosts))
    await prepare(await each.connect('', {}), 'exchange', 'queue', taken);
  let firstIsAway = true;
  const logs = logLines();
  let closed = false;
  let confirm: (() => void) | undefined;
  const client = new FleetManagerClient({
    queue: 'queue',
    manager: optionsOf(manager),
    clock,
    log: logs.log,
    connect: async (url, options) => {
      if (new URL(url).hostname === 'first') {
        if (firstIsAway) throw new Error('it is down');
        return hosts.first.connect(url, options);
      }
      const connection = await hosts.second.connect(url, options);
      connection.on('close', () => (closed = true));
      const create = connection.createConfirmChannel.bind(connection);
      connection.createConfirmChannel = async () => {
        const channel = await create();
        const publish = channel.publish.bind(channel);
        channel.publish = (exchange, key, content, given, confirmed) =>
          publish(exchange, key, content, given, (error, ok) => (confirm = () => confirmed?.(error, ok)));
        return channel;
      };
      return connection;
    },
  });
  t.teardown(() => client.close());
  const { until, whileTimePasses } = timePassing(clock);
  const call = client.call('restart_unit', { parameters: { unit_name: 'a.service' }, timeoutMs: 100_000 });
  await until('it is published, but not confirmed', () => taken.length === 1 && confirm !== undefined);
  firstIsAway = false;
  await until(
    'the client is back on the first broker',
    () => logs.find(/^preferred broker restored$/).length === 1,
  );
  const other = client.call('list_machines', { timeoutMs: 100_000 });
  await until('what is called from now on uses the first broker', () => taken.length === 2);
  t.false(closed);
  t.truthy(confirm);
  confirm?.();
  for (const { id } of taken) manager.addRecord(id, { status: 'completed', responseBody: 'done' });
  t.is(await whileTimePasses(call), 'done');
  await whileTimePasses(other);
  await eventually('the second broker is left', () => closed);
});
