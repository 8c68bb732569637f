import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { Gateway } from '../../src/gateway/gateway.js';
import { systemClock } from '../../src/lib/clock.js';
import { brokerReason } from '../../src/rpc/broker-refusal.js';
import { ConfirmChannel } from '../../src/rpc/confirm-channel.js';
import { MayHaveArrived, PublishRefused } from '../../src/rpc/publish-errors.js';
import { doing, echo, held } from '../support/actions.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { connectTo } from '../support/connect-to.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { makeQueue, RawCaller, serveRequests } from '../support/requests.js';
import { StandInManager } from '../support/stand-in-manager.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import { queuesOf } from '../../src/rpc/queues.js';

const LIMIT = 65_536;
const TOO_LARGE = new RegExp(`message size \\d+ is larger than configured max size ${LIMIT}`);

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

// What a broker refuses by closing the channel, on a RabbitMQ with a small limit and users without permissions.
if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker([`max_message_size = ${LIMIT}`]);
  });
  test.after.always(async (t) => t.context.remove?.());

  /** A connection with a queue of its own, and a publisher on it. */
  const publisher = async (t: ExecutionContext<{ broker: OwnBroker }>) => {
    const connection = await connectTo(t.context.broker);
    t.teardown(async () => connection.close(systemClock));
    const open = connection.confirmChannel.bind(connection);
    let channels = 0;
    connection.confirmChannel = async () => {
      channels++;
      return open();
    };
    const channel = await ConfirmChannel.open(connection);
    const queue = `refused_${randomUUID()}`;
    await connection.probe(async (probe) => probe.assertQueue(queue));
    const waiting = async () =>
      (await connection.probe(async (probe) => probe.checkQueue(queue))).messageCount;
    const to = { exchange: '', routingKey: queue };
    return { connection, channel, queue, to, waiting, channels: () => channels };
  };

  test('a message that is too large fails with the limit, and the others arrive once', async (t) => {
    const { connection, channel, to, waiting } = await publisher(t);
    const small = Array.from({ length: 20 }, async (_, n) =>
      channel.publish(to, Buffer.alloc(n < 10 ? 10 : 1_000), {}),
    );
    const large = channel.publish(to, Buffer.alloc(LIMIT + 1), {});
    const more = Array.from({ length: 20 }, async () => channel.publish(to, Buffer.alloc(500), {}));
    const error = await t.throwsAsync(large, { instanceOf: PublishRefused, message: TOO_LARGE });
    t.like(error, { code: 406, maxBytes: LIMIT });
    t.deepEqual(new Set(await Promise.all([...small, ...more])), new Set(['routed']));
    t.is(await waiting(), 40);
    t.is(await channel.publish(to, Buffer.alloc(LIMIT), {}), 'routed');
    t.false(connection.lost.aborted);
  });

  test('when the limit is known, a message above it is not sent', async (t) => {
    const { channel, to } = await publisher(t);
    let sent = 0;
    const sending = () => ({ priority: sent++ });
    for (let times = 0; times < 3; times++) {
      const large = channel.publish(to, Buffer.alloc(LIMIT + 1), {}, { sending });
      await t.throwsAsync(large, { instanceOf: PublishRefused, message: TOO_LARGE });
    }
    t.is(sent, 1);
  });

  test('messages that each have a channel of their own arrive in order', async (t) => {
    const { connection, channel, to, queue } = await publisher(t);
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    // The first ones are the longest to transmit.
    const bytes = (n: number) => Buffer.alloc(60_000 - n * 1_000, n);
    await Promise.all(numbers.map(async (n) => channel.publish(to, bytes(n), {}, { sharing: 'alone' })));
    const arrived = await connection.probe(async (probe) => {
      const messages = [];
      for (const _ of numbers) messages.push(await probe.get(queue, { noAck: true }));
      return messages.map((message) => (typeof message === 'boolean' ? undefined : message.content[0]));
    });
    t.deepEqual(arrived, numbers);
  });

  /** An exchange that accepted a message, and was then deleted: its messages share a channel with others. */
  const deletedExchange = async (t: ExecutionContext<{ broker: OwnBroker }>) => {
    const opened = await publisher(t);
    const { connection, channel, to } = opened;
    const exchange = `exchange_${randomUUID()}`;
    await connection.probe(async (probe) => probe.assertExchange(exchange, 'topic', { durable: false }));
    const gone = { exchange, routingKey: 'x' };
    await channel.publish(gone, Buffer.alloc(100), {});
    await channel.publish(to, Buffer.alloc(100), {});
    await connection.probe(async (probe) => probe.deleteExchange(exchange));
    return { ...opened, gone };
  };

  test('a message that is refused on a shared channel costs no other message', async (t) => {
    const { connection, channel, to, gone, waiting } = await deletedExchange(t);
    const before = Array.from({ length: 5 }, async () => channel.publish(to, Buffer.alloc(9), {}));
    const refused = channel.publish(gone, Buffer.alloc(9), {});
    const after = Array.from({ length: 5 }, async () => channel.publish(to, Buffer.alloc(9), {}));
    await t.throwsAsync(refused, { instanceOf: PublishRefused, message: /NOT_FOUND - no exchange/ });
    t.deepEqual(new Set(await Promise.all([...before, ...after])), new Set(['routed']));
    t.true((await waiting()) >= 11);
    t.is(await channel.publish(to, Buffer.alloc(9), {}), 'routed');
    t.false(connection.lost.aborted);
  });

  test('each time that the broker closes the shared channel, another one takes its place', async (t) => {
    const { connection, channel, to, channels } = await publisher(t);
    const exchange = `exchange_${randomUUID()}`;
    for (const times of [1, 2, 3]) {
      await connection.probe(async (probe) => probe.assertExchange(exchange, 'topic', { durable: false }));
      await channel.publish({ exchange, routingKey: 'x' }, Buffer.alloc(100), {});
      await channel.publish(to, Buffer.alloc(100), {});
      await connection.probe(async (probe) => probe.deleteExchange(exchange));
      const refused = channel.publish({ exchange, routingKey: 'x' }, Buffer.alloc(9), {});
      await t.throwsAsync(refused, { instanceOf: PublishRefused });
      // The broker answers in order: the new channel is open before that of a later probe is closed.
      for (let probes = 0; probes < 2; probes++) await connection.probe(async () => {});
      const opened = channels();
      await Promise.all(Array.from({ length: 20 }, async () => channel.publish(to, Buffer.alloc(9), {})));
      t.is(channels(), opened, `they share a channel, also after ${times} refusals`);
    }
  });

  test('a message that may arrive only once is not published again after the refusal of another', async (t) => {
    const { channel, to, gone, waiting, channels } = await deletedExchange(t);
    const before = channels();
    let sent = 0;
    const once = { sharing: 'once', sending: () => ({ priority: sent++ }) } as const;
    const refused = channel.publish(gone, Buffer.alloc(9), {});
    const others = Array.from({ length: 5 }, async () => channel.publish(to, Buffer.alloc(9), {}, once));
    await t.throwsAsync(refused, { instanceOf: PublishRefused });
    const outcomes = await Promise.allSettled(others);
    t.is(sent, 5);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') t.true(outcome.reason instanceof MayHaveArrived);
    t.true((await waiting()) <= 6);
    t.is(channels(), before + 1, 'one takes the place of the one that the broker has closed');
  });

  const large = doing(async () => ({ text: 'x'.repeat(90_000) }), { name: 'large' });

  test('a reply that is too large for the broker is replaced for its caller, and nobody else notices', async (t) => {
    const { broker } = t.context;
    const { action, begun, finishRun } = held({ effect: 'change' });
    const served = await serveRequests(t, broker, [large, action, echo], { maxAnswerBytes: 1_000_000 });
    const { queue, service, logs } = served;
    const caller = await RawCaller.open(t, broker, queue);
    const change = caller.send({ action: 'act' }, { messageId: 'change' });
    await eventually('the change runs', () => begun() === 1);
    for (let times = 0; times < 2; times++) {
      const small = Array.from({ length: 10 }, async () => caller.ask({ action: 'echo' }));
      const { answer } = await caller.ask({ action: 'large' }, { messageId: `large ${times}` });
      t.like(answer.response_body, { code: 'answer_too_large', details: { limit: LIMIT } });
      t.regex(answer.response_body.errors?.[0] ?? '', /the limit of the broker is 65536/);
      for (const each of await Promise.all(small)) t.is(each.answer.status, 'completed');
    }
    finishRun();
    t.is((await caller.replyFor(change)).answer.status, 'completed');
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 1);
    t.is(await caller.waiting(), 0);
    t.is(logs.find(/^broker connection lost$/).length, 0);
    const replaced = logs.find(/^reply replaced$/);
    t.is(replaced.length, 2);
    for (const { reason } of replaced) t.regex(String(reason), TOO_LARGE);
    t.is(logs.find(/^request failed$/).filter(({ code }) => code === 'answer_too_large').length, 2);
  });

  test('a reply that is too large only with the copy of its request is sent without the copy', async (t) => {
    const { broker } = t.context;
    const action = doing(async () => ({ text: 'y'.repeat(30_000) }));
    const settings = { maxAnswerBytes: 1_000_000, maxMessageBytes: 1_000_000 };
    const { queue } = await serveRequests(t, broker, [action], settings);
    const caller = await RawCaller.open(t, broker, queue);
    const parameters = { text: 'x'.repeat(40_000) };
    const { answer } = await caller.ask({ action: 'act', action_parameters: parameters });
    t.is(answer.status, 'completed');
    t.deepEqual(answer.response_body, { text: 'y'.repeat(30_000) });
    t.deepEqual(answer.request_body, {});
  });

  const READ_ONLY = { configure: '.*', write: '^$', read: '.*' };

  /** Serves as a user with these permissions; the caller has all. */
  const serveAs = async (
    t: ExecutionContext<{ broker: OwnBroker }>,
    permissions: { configure?: string; write?: string; read?: string },
    actions: Parameters<typeof serveRequests>[2],
    { queuesExist = true, ...settings }: { queuesExist?: boolean; concurrency?: number } = {},
  ) => {
    const { broker } = t.context;
    const name = `user_${randomUUID()}`;
    const queue = `queue_${randomUUID()}`;
    // A queue that exists needs no permission for its declaration.
    if (queuesExist) for (const each of queuesOf(queue)) await makeQueue(broker, each);
    const login: TestBroker = await broker.user(name, permissions);
    const served = await serveRequests(t, { ...login, open: async () => broker.open() }, actions, {
      queue,
      waits: false,
      ...settings,
    });
    return { ...served, name, set: async (to: typeof permissions) => void (await broker.user(name, to)) };
  };
  const isReady = (service: { notReady: () => string[] }) => service.notReady().length === 0;

  test('without the permission to reply it takes no requests and says so, and goes on when the permission is there', async (t) => {
    const { action, begun, finishRun } = held();
    const { service, queue, logs, name, set } = await serveAs(t, READ_ONLY, [action]);
    const [reason] = await eventually('it is connected', () => {
      const reasons = service.notReady();
      return reasons[0]?.startsWith('the broker refuses replies') ? reasons : undefined;
    });
    t.is(
      reason,
      `the broker refuses replies: ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user '${name}' (it lacks the write permission)`,
    );
    const caller = await RawCaller.open(t, t.context.broker, queue);
    const id = caller.send({ action: 'act' });
    await eventually('it waits in the queue', async () => (await caller.waiting()) === 1);
    t.is(await caller.consumers(), 0);
    await set({});
    await eventually('it runs', () => begun() === 1);
    finishRun();
    t.is((await caller.replyFor(id)).answer.status, 'completed');
    t.deepEqual(service.notReady(), []);
    const refused = logs.find(/^replies refused$/);
    t.is(refused.length, 1);
    t.regex(String(refused[0]?.reason), /ACCESS_REFUSED - access to exchange 'amq\.default'/);
    t.is(logs.find(/^replies no longer refused$/).length, 1);
    t.is(logs.find(/^broker connection lost$/).length, 0);
  });

  test('a reply that is refused for lack of permission waits for it, and its request runs once', async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { service, queue, set } = await serveAs(t, {}, [action, echo]);
    await eventually('it is ready', () => isReady(service));
    const caller = await RawCaller.open(t, t.context.broker, queue);
    const ids = [1, 2, 3].map(() => caller.send({ action: 'act' }));
    await eventually('they run', () => begun() === 3);
    await set(READ_ONLY);
    finishRun();
    await eventually('it is not ready', () => !isReady(service));
    await eventually('it takes no more', async () => (await caller.consumers()) === 0);
    const later = caller.send({ action: 'echo' });
    await eventually('it waits in the queue', async () => (await caller.waiting()) === 1);
    t.is(service.held, 3);
    await set({});
    for (const id of [...ids, later]) t.is((await caller.replyFor(id)).answer.status, 'completed');
    await eventually('nothing is held', () => service.held === 0);
    t.true(isReady(service));
    t.is(begun(), 3);
  });

  test('a message whose dead-lettering is refused is neither lost nor published twice', async (t) => {
    const { service, queue, set } = await serveAs(t, {}, [echo]);
    await eventually('it is ready', () => isReady(service));
    const caller = await RawCaller.open(t, t.context.broker, queue);
    await set(READ_ONLY);
    caller.publish('garbage');
    await eventually('it is not ready', () => !isReady(service));
    t.is(service.held, 1);
    await set({});
    t.is((await caller.take('error queue')).content.toString(), 'garbage');
    await eventually('nothing is held', () => service.held === 0);
    t.is(await caller.waiting('error queue'), 0);
  });

  for (const [permission, said, queuesExist] of [
    ['configure', "access to queue '.*' .* \\(it lacks the configure or read permission\\)", false],
    ['write', "access to exchange 'amq.default' .* \\(it lacks the write permission\\)", false],
    ['read', "access to queue '.*' .* \\(it lacks the read permission\\)", true],
  ] as const) {
    test(`without the ${permission} permission for its ${queuesExist ? '' : 'new '}queue it is not ready, says why, and goes on when the permission is there`, async (t) => {
      const { service, set } = await serveAs(t, { [permission]: '^$' }, [echo], { queuesExist });
      const text = new RegExp(`ACCESS_REFUSED - ${said}$`);
      await eventually('it says so', () => text.test(service.notReady()[0] ?? ''));
      await set({});
      await eventually('it is ready', () => isReady(service));
      t.pass();
    });
  }

  for (const [operation, permission, ask] of [
    ['to bind a queue', 'write', async (channel, queue) => channel.bindQueue(queue, 'amq.direct', 'key')],
    [
      'to bind to an exchange',
      'read',
      async (channel, queue) => channel.bindQueue(queue, 'amq.direct', 'key'),
    ],
    ['to delete a queue', 'configure', async (channel, queue) => channel.deleteQueue(queue)],
    ['to consume', 'read', async (channel, queue) => channel.consume(queue, () => {})],
  ] as const satisfies [string, string, (channel: Channel, queue: string) => Promise<unknown>][]) {
    test(`the reason why the broker does not allow a user ${operation} names the ${permission} permission`, async (t) => {
      const { broker } = t.context;
      const queue = `queue_${randomUUID()}`;
      await makeQueue(broker, queue);
      const connection = await connectTo(await broker.user(`user_${randomUUID()}`, { [permission]: '^$' }));
      t.teardown(async () => connection.close(systemClock));
      const error = await t.throwsAsync(connection.probe(async (channel) => ask(channel, queue)));
      t.regex(
        brokerReason(error),
        new RegExp(`^ACCESS_REFUSED .* \\(it lacks the ${permission} permission\\)$`),
      );
    });
  }

  const clientOf = (t: ExecutionContext<{ broker: OwnBroker }>, { url }: TestBroker, queue: string) => {
    const client = new FleetManagerClient({ urls: [url], queue });
    t.teardown(async () => client.close());
    return client;
  };

  test('a request that is too large for the broker fails at once, and other calls get their results', async (t) => {
    const { broker } = t.context;
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue } = await serveRequests(t, broker, [action, echo], { maxMessageBytes: 1_000_000 });
    const client = clientOf(t, broker, queue);
    const change = client.call('act', { timeoutMs: HUNG_MS });
    await eventually('it runs', () => begun() === 1);
    const others = Array.from({ length: 10 }, async () => client.call('echo', { timeoutMs: HUNG_MS }));
    const parameters = { text: 'x'.repeat(80_000) };
    const error = await t.throwsAsync(client.call('act', { parameters, timeoutMs: HUNG_MS }), {
      instanceOf: FleetManagerError,
    });
    t.like(error, { code: 'request_too_large', fault: 'caller', details: { limit: LIMIT } });
    t.regex(error?.message ?? '', TOO_LARGE);
    for (const result of await Promise.all(others)) t.deepEqual(result, { number: 0 });
    finishRun();
    t.deepEqual(await change, { run: 1 });
    t.is(begun(), 1);
  });

  test('over the gateway a request that is too large for the broker gets 413 at once, and other calls get their results', async (t) => {
    const { broker } = t.context;
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue } = await serveRequests(t, broker, [action, echo], { maxMessageBytes: 1_000_000 });
    const { log } = logLines();
    const gateway = await Gateway.start({
      host: '127.0.0.1',
      port: 0,
      authenticate: undefined,
      hostname: 'worker',
      maxBodyBytes: 1_000_000,
      memoryBytes: 2 ** 26,
      describe: () => [],
      notReady: () => [],
      brokers: async () => [{ url: broker.url }],
      queue,
      clock: systemClock,
      log,
      clientLog: log,
    });
    t.teardown(async () => gateway.stop());
    const post = async (name: string, parameters?: object) => {
      const headers = { 'content-type': 'application/json', 'timeout-ms': String(HUNG_MS) };
      const body = JSON.stringify({ action_parameters: parameters });
      const response = await fetch(`${gateway.url}/v1/actions/${name}`, { method: 'POST', headers, body });
      return { status: response.status, text: await response.text() };
    };
    const change = post('act');
    await eventually('it runs', () => begun() === 1);
    const others = Array.from({ length: 10 }, async () => post('echo'));
    const { status, text } = await post('echo', { text: 'x'.repeat(80_000) });
    t.is(status, 413);
    t.regex(text, TOO_LARGE);
    for (const other of await Promise.all(others)) t.is(other.status, 200);
    finishRun();
    t.is((await change).status, 200);
    t.is(begun(), 1);
  });

  test("a client without the permission to publish fails at once with the broker's reason", async (t) => {
    const { broker } = t.context;
    const { queue } = await serveRequests(t, broker, [echo]);
    const name = `user_${randomUUID()}`;
    const client = clientOf(t, await broker.user(name, READ_ONLY), queue);
    const calls = Array.from({ length: 5 }, async () => client.call('restart_unit', { timeoutMs: HUNG_MS }));
    for (const call of calls) {
      const error = await t.throwsAsync(call, { instanceOf: FleetManagerError });
      t.is(error?.code, 'service_unavailable');
      t.regex(error?.message ?? '', /ACCESS_REFUSED - access to exchange 'amq.default'/);
    }
  });

  test('a request whose requeueing is refused is not lost: it is in the queue again when the service has stopped', async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { service, queue, logs, set } = await serveAs(t, {}, [action], { concurrency: 1 });
    await eventually('it is ready', () => isReady(service));
    const caller = await RawCaller.open(t, t.context.broker, queue);
    caller.send({ action: 'act' }, { messageId: 'running' });
    await eventually('it runs', () => begun() === 1);
    caller.send({ action: 'act' }, { messageId: 'waiting' });
    await eventually('both are held', () => service.held === 2);
    await set(READ_ONLY);
    const drained = service.drain(HUNG_MS);
    await eventually('its requeueing is refused', () => logs.find(/^replies refused$/).length === 1);
    finishRun();
    t.false(await drained);
    await service.close();
    const left = [await caller.take('queue'), await caller.take('queue')];
    t.deepEqual(new Set(left.map(({ properties }) => properties.messageId)), new Set(['running', 'waiting']));
    t.is(begun(), 1);
  });

  test("a message with another user's user_id, which the broker would refuse, is requeued and dead-lettered with the worker's own, and names the other one", async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { service, queue, name: user } = await serveAs(t, {}, [action], { concurrency: 1 });
    await eventually('it is ready', () => isReady(service));
    const caller = await RawCaller.open(t, t.context.broker, queue);
    const userId = 'guest';
    caller.publish('garbage', { userId });
    const dead = await caller.take('error queue');
    t.is(dead.content.toString(), 'garbage');
    t.is(dead.properties.userId, user);
    t.like(dead.properties.headers, { 'x-caller': userId, 'x-caller-verified-by': 'broker' });
    const id = caller.send({ action: 'act' }, { messageId: 'running', userId });
    await eventually('it runs', () => begun() === 1);
    caller.send({ action: 'act' }, { messageId: 'waiting', userId });
    await eventually('both are held', () => service.held === 2);
    const drained = service.drain(60_000);
    const again = await caller.take('queue');
    t.is(again.properties.messageId, 'waiting');
    t.true(again.properties.userId !== undefined && again.properties.userId !== userId);
    t.is(again.properties.headers?.['x-caller'], userId);
    t.false(again.fields.redelivered);
    finishRun();
    t.true(await drained);
    t.is((await caller.replyFor(id)).answer.status, 'completed');
  });

  /** A client that calls through a Manager, as a user of the broker; the exchange and the queue exist. */
  const managerClient = async (t: ExecutionContext<{ broker: OwnBroker }>, username: string) => {
    const { broker } = t.context;
    const manager = await StandInManager.start(t);
    const [exchange, queue] = [`exchange_${randomUUID()}`, `queue_${randomUUID()}`];
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    await connection.probe(async (channel) => {
      await channel.assertExchange(exchange, 'topic');
      await channel.assertQueue(queue, { durable: true });
      await channel.bindQueue(queue, exchange, `root.${queue}`);
    });
    manager.addExchange(7, { rootExchangeName: exchange, routingKey: 'root' });
    const connections = [{ host: '127.0.0.1', port: broker.port, username, password: broker.password }];
    manager.addBroker(3, { connections });
    const { url: managerUrl, oauthUrl, clientId, clientSecret } = manager;
    const oauth = { url: oauthUrl, clientId, clientSecret };
    const client = new FleetManagerClient({
      queue,
      manager: { managerUrl, oauth, exchangeId: 7, brokerId: 3 },
    });
    t.teardown(async () => client.close());
    const messages = async () =>
      (await connection.probe(async (probe) => probe.checkQueue(queue))).messageCount;
    return { client, manager, exchange, messages };
  };
  const parameters = { unit_name: 'a.service' };

  test("through a Manager, a client without the permission to publish fails at once with the broker's reason, and leaves no record", async (t) => {
    const name = `user_${randomUUID()}`;
    await t.context.broker.user(name, READ_ONLY);
    const { client, manager, exchange } = await managerClient(t, name);
    const change = client.call('restart_unit', { parameters, timeoutMs: HUNG_MS });
    const error = await t.throwsAsync(change, { instanceOf: FleetManagerError });
    t.like(error, { code: 'service_unavailable', retryable: true });
    t.regex(error?.message ?? '', new RegExp(`ACCESS_REFUSED - access to exchange '${exchange}'`));
    await eventually('its record is deleted', () => manager.records.size === 0);
  });

  test('through a Manager, a request that is too large for the broker fails at once, others arrive, and it leaves no record', async (t) => {
    const name = `user_${randomUUID()}`;
    await t.context.broker.user(name, {});
    const { client, manager, messages } = await managerClient(t, name);
    const others = [1, 2, 3].map(async () => client.call('restart_unit', { parameters, timeoutMs: HUNG_MS }));
    for (const other of others) other.catch(() => {});
    const tooLarge = { ...parameters, padding: 'x'.repeat(LIMIT) };
    const call: Promise<unknown> = client.call('restart_unit', { parameters: tooLarge, timeoutMs: HUNG_MS });
    const error = await t.throwsAsync(call, { instanceOf: FleetManagerError });
    t.like(error, { code: 'request_too_large', fault: 'caller', details: { limit: LIMIT } });
    await eventually('the others arrived', async () => (await messages()) === 3);
    await eventually('its record is deleted', () => manager.records.size === 3);
  });

  test('a direct reply address that the broker refuses (541) does not keep the reply from its record', async (t) => {
    const saved: string[] = [];
    const ofRecords: ReplyChannel = {
      needsPlainReply: false,
      reaches: ({ recordId }) => recordId !== undefined,
      send: async ({ body }) => {
        saved.push(String(body));
        return 'sent';
      },
    };
    const { broker } = t.context;
    const { queue, service, logs } = await serveRequests(t, broker, [echo], { channels: [ofRecords] });
    const caller = await RawCaller.open(t, broker, queue);
    const replyTo = 'amq.rabbitmq.reply-to.g1h0AA==.abc';
    caller.publish('{"id":13,"request_body":{"action":"echo"}}', { replyTo });
    await eventually('it is settled', () => saved.length === 1 && service.held === 0);
    t.like(JSON.parse(saved[0] ?? ''), { id: 13, status: 'completed' });
    t.is(logs.find(/^broker connection lost$/).length, 0);
    t.is(logs.find(/^request completed$/)[0]?.dropped, undefined);
    t.is(await caller.waiting(), 0);
  });
}
