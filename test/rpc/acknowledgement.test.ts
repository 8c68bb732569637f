import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { echo, held } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { checkingChannel } from '../support/checking-channel.js';
import { eventually } from '../support/eventually.js';
import { startProxy } from '../support/proxy.js';
import { loseWorker, makeQueue, RawCaller, serveRequests } from '../support/requests.js';
import type { SendOutcome } from '../../src/rpc/reply-channel.js';

const broker = rabbitmq();
if (broker !== undefined) {
  /** Serves over a link that can fail; the caller has a separate connection. */
  const serveByLink = async (
    t: ExecutionContext,
    actions: Parameters<typeof serveRequests>[2],
    settings: Parameters<typeof serveRequests>[3] = {},
  ) => {
    const url = new URL(broker.url);
    const link = await startProxy(t, { port: Number(url.port) });
    url.port = String(link.port);
    const served = await serveRequests(t, { ...broker, url: url.href }, actions, settings);
    return { ...served, link, caller: await RawCaller.open(t, broker, served.queue) };
  };
  const isAway = (service: { notReady(): string[] }) => () =>
    service.notReady().some((reason) => reason.includes('no connection'));
  /** Begins a shutdown while one request runs, another waits, and a third one fills the queue for one message. */
  const drainIntoFullQueue = async ({
    service,
    caller,
    begun,
  }: Pick<Awaited<ReturnType<typeof serveByLink>>, 'service' | 'caller'> & { begun: () => number }) => {
    const heldBefore = service.held;
    const running = caller.send({ action: 'act' });
    await eventually('it runs', () => begun() === 1);
    const waiting = caller.send({ action: 'act' });
    await eventually('it waits', () => service.held === heldBefore + 2);
    const filling = caller.send({ action: 'act' });
    await eventually('the queue is full', async () => (await caller.waiting()) === 1);
    return { running, waiting, filling, drained: service.drain(60_000) };
  };

  test('a request is acknowledged only when the broker has confirmed its reply', async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { service, link, caller } = await serveByLink(t, [action]);
    const id = caller.send({ action: 'act' }, { messageId: 'm', persistent: true });
    await eventually('it runs', () => begun() === 1);
    link.swallow();
    finishRun();
    t.is((await caller.replyFor(id)).answer.status, 'completed');
    t.is(service.held, 1);
    link.refuse();
    const again = await caller.take('queue');
    t.true(again.fields.redelivered);
    t.is(again.properties.correlationId, id);
    link.accept();
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 1);
    t.is(await caller.waiting('error queue'), 0);
  });

  test('a request is acknowledged only when every reply channel has accepted its reply', async (t) => {
    const sent: (() => void)[] = [];
    const slow = {
      needsPlainReply: false,
      reaches: () => true,
      send: async () => new Promise<SendOutcome>((resolve) => sent.push(() => resolve('sent'))),
    };
    const { service, link, caller } = await serveByLink(t, [echo], { channels: [slow] });
    await caller.ask({ action: 'echo' });
    t.is(sent.length, 1);
    link.refuse();
    t.true((await caller.take('queue')).fields.redelivered);
    link.accept();
    sent.forEach((resolve) => resolve());
    await eventually('nothing is held', () => service.held === 0);
  });

  test('a request without a waiting caller is acknowledged only when its action has ended', async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { service, link, caller } = await serveByLink(t, [action]);
    caller.publish(JSON.stringify({ request_body: { action: 'act' } }), { persistent: true });
    await eventually('it runs', () => begun() === 1);
    link.refuse();
    t.true((await caller.take('queue')).fields.redelivered);
    link.accept();
    finishRun();
    await eventually('nothing is held', () => service.held === 0);
  });

  test('an invalid message is acknowledged only when its dead-lettering is confirmed', async (t) => {
    let confirm = () => {};
    const slow = {
      needsPlainReply: false,
      reaches: () => true,
      send: async () => new Promise<SendOutcome>((resolve) => (confirm = () => resolve('sent'))),
    };
    const { service, link, caller, logs } = await serveByLink(t, [echo], { channels: [slow] });
    caller.publish('garbage', { persistent: true });
    await eventually('it is held', () => service.held === 1);
    link.swallow();
    confirm();
    t.is((await caller.take('error queue')).content.toString(), 'garbage');
    t.is(service.held, 1);
    link.refuse();
    const again = await caller.take('queue');
    t.true(again.fields.redelivered);
    t.is(again.content.toString(), 'garbage');
    link.accept();
    await eventually('nothing is held', () => service.held === 0);
    await eventually('it is connected again', () => service.notReady().length === 0);
    t.is(await caller.waiting('error queue'), 0, 'there is no second copy');
    t.deepEqual(logs.find(/^message dead-lettered$/), []);
  });

  test('a request that has not begun at shutdown is acknowledged only when its requeueing is confirmed', async (t) => {
    const { action, begun, finishRun } = held();
    const { service, link, caller } = await serveByLink(t, [action], { concurrency: 1 });
    const running = caller.send({ action: 'act' }, { persistent: true });
    await eventually('it runs', () => begun() === 1);
    const waiting = caller.send({ action: 'act' }, { persistent: true });
    await eventually('both are held', () => service.held === 2);
    link.swallow();
    const drained = service.drain(20_000);
    const copy = await caller.take('queue');
    t.is(copy.properties.correlationId, waiting);
    t.is(service.held, 2);
    link.refuse();
    const originals = [await caller.take('queue'), await caller.take('queue')];
    t.deepEqual(
      originals.map(({ properties }) => properties.correlationId),
      [running, waiting],
    );
    link.accept();
    finishRun();
    await caller.replyFor(running);
    t.true(await drained);
    t.is(await caller.waiting(), 0, 'there is no second copy');
  });

  test('a request that has not begun at shutdown stays unacknowledged while its queue is full', async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, queue, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
    const { action, begun, finishRun } = held();
    const { service, logs } = await serveRequests(t, broker, [action], {
      queue,
      concurrency: 1,
      prefetch: 2,
    });
    const caller = await RawCaller.open(t, broker, queue);
    const { running, waiting, filling, drained } = await drainIntoFullQueue({ service, caller, begun });
    await eventually('that is logged', () => logs.find(/^queue full$/).length === 1);
    t.is(service.held, 2);
    finishRun();
    await caller.replyFor(running);
    t.false(await drained, 'not everything could be requeued');
    await service.close();
    const left = [await caller.take('queue'), await caller.take('queue')];
    t.deepEqual(
      left.map(({ properties }) => properties.correlationId),
      [waiting, filling],
    );
    t.deepEqual(logs.find(/^queue no longer full$/), []);
  });

  test('a full error queue counts as full until it has taken a message, also after a lost connection', async (t) => {
    const queue = `test_${randomUUID()}`;
    const errors = `${queue}_error`;
    await makeQueue(broker, errors, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
    const { service, link, caller, logs } = await serveByLink(t, [echo], { queue });
    caller.publish('first', { persistent: true });
    await eventually('the error queue is full', async () => (await caller.waiting('error queue')) === 1);
    caller.publish('second', { persistent: true });
    await eventually('that is logged', () => logs.find(/^queue full$/).length === 1);
    t.regex(service.notReady().join(), /a queue is full/);
    link.refuse();
    await eventually('it is delivered again', async () => (await caller.waiting()) === 1);
    await eventually('nothing is held', () => service.held === 0);
    t.deepEqual(logs.find(/^queue no longer full$/), []);
    link.accept();
    await eventually('it waits again', () => service.notReady().join().includes('a queue is full'));
    t.is((await caller.take('error queue')).content.toString(), 'first');
    t.is((await caller.take('error queue')).content.toString(), 'second');
    await eventually('nothing is held', () => service.held === 0);
    for (const phrase of [/^queue full$/, /^queue no longer full$/])
      t.deepEqual(
        logs.find(phrase).map((line) => line.queue),
        [errors],
      );
    t.is(await caller.waiting('error queue'), 0);
    t.is(logs.find(/^message dead-lettered$/).length, 2);
  });

  test('two full queues are logged apart', async (t) => {
    const queue = `test_${randomUUID()}`;
    const errors = `${queue}_error`;
    const full = { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } };
    await makeQueue(broker, queue, full);
    await makeQueue(broker, errors, full);
    const { action, begun, finishRun } = held();
    const limits = { concurrency: 1, prefetch: 3, maxCalls: 16 };
    const { service, logs } = await serveRequests(t, broker, [action], { queue, ...limits });
    const caller = await RawCaller.open(t, broker, queue);
    const logged = () =>
      logs.find(/^queue (no longer )?full$/).map(({ message, queue: name }) => [message, name]);
    caller.publish('first');
    await eventually('the error queue is full', async () => (await caller.waiting('error queue')) === 1);
    caller.publish('second');
    await eventually('that is logged', () => logged().length === 1);
    const { waiting, filling, drained } = await drainIntoFullQueue({ service, caller, begun });
    await eventually('that is logged too', () => logged().length === 2);
    t.is((await caller.take('queue')).properties.correlationId, filling);
    t.is((await caller.take('queue')).properties.correlationId, waiting);
    await eventually('the end of one is logged', () => logged().length === 3);
    await caller.take('error queue');
    await eventually('the end of the other is logged', () => logged().length === 4);
    finishRun();
    t.true(await drained);
    t.deepEqual(logged(), [
      ['queue full', errors],
      ['queue full', queue],
      ['queue no longer full', queue],
      ['queue no longer full', errors],
    ]);
  });

  test('a message for a full queue is requeued when the queue has room', async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, queue, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
    const { action, begun, finishRun } = held();
    const { service, logs } = await serveRequests(t, broker, [action], {
      queue,
      concurrency: 1,
      prefetch: 2,
    });
    const caller = await RawCaller.open(t, broker, queue);
    const { waiting, filling, drained } = await drainIntoFullQueue({ service, caller, begun });
    await eventually('that is logged', () => logs.find(/^queue full$/).length === 1);
    t.is((await caller.take('queue')).properties.correlationId, filling);
    const back = await caller.take('queue');
    t.is(back.properties.correlationId, waiting);
    t.false(back.fields.redelivered);
    await eventually('that has ended', () => logs.find(/^queue no longer full$/).length === 1);
    finishRun();
    t.true(await drained);
    t.is(await caller.waiting(), 0);
  });

  test('when the error queue is missing it is declared again, and each invalid message is answered and dead-lettered once', async (t) => {
    const { queue, service, logs } = await serveRequests(t, broker, [echo]);
    const caller = await RawCaller.open(t, broker, queue);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    await channel.deleteQueue(`${queue}_error`);
    const ids = Array.from({ length: 20 }, (_, n) => caller.sendRaw(`invalid ${n}`));
    for (const id of ids) await caller.replyFor(id);
    await eventually('nothing is held', () => service.held === 0);
    t.is(await caller.waiting('error queue'), ids.length);
    t.deepEqual(
      ids.map((id) => caller.repliesFor(id).length),
      ids.map(() => 1),
    );
    t.is(logs.find(/^message dead-lettered$/).length, ids.length);
    t.deepEqual(logs.find(/^broker connection lost$/), []);
  });

  test('a message on which the service itself fails is dead-lettered', async (t) => {
    const broken = {
      needsPlainReply: false,
      reaches: () => true,
      send: async () => {
        throw new Error('a mistake');
      },
    };
    const { queue, service, logs } = await serveRequests(t, broker, [echo], { channels: [broken] });
    const caller = await RawCaller.open(t, broker, queue);
    caller.send({ action: 'echo' });
    const aside = await caller.take('error queue');
    t.like(aside.properties.headers, { 'x-may-have-begun': true });
    t.regex(String(aside.properties.headers?.['x-reason']), /the service failed to handle it/);
    t.is(logs.find(/^message handling failed$/).length, 1);
    await eventually('nothing is held', () => service.held === 0);
  });

  test('a request whose reply cannot be sent by the end of a shutdown stays in the queue', async (t) => {
    const stuck = {
      needsPlainReply: false,
      reaches: () => true,
      send: async (_answer: unknown, _request: unknown, signal: AbortSignal) =>
        new Promise<SendOutcome>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason)),
        ),
    };
    const { queue, service } = await serveRequests(t, broker, [echo], { channels: [stuck] });
    const caller = await RawCaller.open(t, broker, queue);
    const { message } = await caller.ask({ action: 'echo' });
    t.false(await service.drain(0), 'not everything was answered');
    await eventually('it is abandoned', () => service.held === 0);
    await service.close();
    const again = await caller.take('queue');
    t.true(again.fields.redelivered);
    t.is(again.properties.correlationId, message.properties.correlationId);
    t.is(await caller.waiting('error queue'), 0);
  });

  test('a service that shuts down takes no more messages, also after a lost connection', async (t) => {
    const { action, begun, finishRun } = held();
    const { service, link, caller } = await serveByLink(t, [action, echo]);
    const running = caller.send({ action: 'act' });
    await eventually('it runs', () => begun() === 1);
    const drained = service.drain(60_000);
    t.deepEqual(service.notReady(), ['the service is shutting down']);
    await eventually('it has stopped consuming', async () => (await caller.consumers()) === 0);
    const late = caller.send({ action: 'echo' });
    link.cut();
    await eventually('its messages are back', async () => (await caller.waiting()) === 2);
    finishRun();
    // By the next connection, which is built then.
    t.is((await caller.replyFor(running)).answer.status, 'completed');
    t.true(await drained);
    t.is(await caller.consumers(), 0);
    t.is(await caller.waiting(), 2);
    t.is(caller.repliesFor(late).length, 0);
  });

  test('no more messages are taken than the limit of held ones', async (t) => {
    const { action, begun, finishRun } = held();
    // Requests without a cluster may be three quarters of those that the runner holds.
    const limits = { prefetch: 8, maxCalls: 16 };
    const { queue, service } = await serveRequests(t, broker, [action, echo], limits);
    const caller = await RawCaller.open(t, broker, queue);
    const ids = Array.from({ length: 10 }, () => caller.send({ action: 'act' }));
    await eventually('as many run as may be held', () => begun() === 8);
    await eventually('the others wait', async () => (await caller.waiting()) === 2);
    t.is(service.held, 8);
    finishRun();
    await eventually('the others run', () => begun() === 10);
    finishRun();
    for (const id of ids) t.is((await caller.replyFor(id)).answer.status, 'completed');
  });

  test('nothing is taken while the broker is down, and it is reported that it is', async (t) => {
    const { service, link, caller } = await serveByLink(t, [echo]);
    link.refuse();
    await eventually('the loss is seen', isAway(service));
    const id = caller.send({ action: 'echo' });
    await eventually(
      'it waits: the broker has seen the loss too',
      async () => (await caller.waiting()) === 1,
    );
    link.accept();
    t.is((await caller.replyFor(id)).answer.status, 'completed');
    t.deepEqual(service.notReady(), []);
  });

  for (const [what, redelivered] of [
    ['that may have begun before keeps that mark', true],
    ['that was not delivered before gets no such mark', false],
  ] as const)
    test(`a request ${what} when it is released while its channel checks it`, async (t) => {
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, queue);
      const caller = await RawCaller.open(t, broker, queue);
      caller.publish('{"id":13,"request_body":{"action":"act"}}', { messageId: 'm' });
      if (redelivered) await loseWorker(broker, queue, 1);
      const { channel, checks } = checkingChannel();
      const { action, begun } = held({ effect: 'change' });
      const { service } = await serveRequests(t, broker, [action], { queue, channels: [channel] });
      await eventually('it is checked', () => checks() === 1);
      t.true(await service.drain(60_000));
      await caller.take(redelivered ? 'suspects' : 'queue');
      t.is(await caller.waiting(), 0);
      t.is(await caller.waiting('suspects'), 0);
      t.is(begun(), 0);
    });

  const checkingRecords = () => checkingChannel(({ recordId }) => recordId !== undefined);
  const CHANGE = '{"id":13,"request_body":{"action":"act"}}';

  test('a change that may have begun before is not run when its connection is lost while its channel checks it', async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, queue);
    const earlier = await RawCaller.open(t, broker, queue);
    const id = earlier.sendRaw(CHANGE, { persistent: true });
    await loseWorker(broker, queue, 1);
    const { channel, checks, accept } = checkingRecords();
    const { action, begun } = held({ effect: 'change' });
    const { service, link } = await serveByLink(t, [action], { queue, channels: [channel] });
    await eventually('it is checked', () => checks() === 1);
    link.refuse();
    await eventually('nothing is held', () => service.held === 0);
    accept();
    link.accept();
    t.is((await earlier.replyFor(id)).answer.response_body.code, 'outcome_unknown');
    t.is(begun(), 0);
  });

  test('a request that waits for the same one keeps the mark that it may have begun', async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, queue);
    const caller = await RawCaller.open(t, broker, queue);
    for (let n = 0; n < 2; n++) caller.publish(CHANGE);
    await loseWorker(broker, queue, 2);
    const { channel, checks } = checkingRecords();
    const { action } = held({ effect: 'change' });
    const { service } = await serveRequests(t, broker, [action], { queue, channels: [channel] });
    await eventually('both are held', () => service.held === 2 && checks() === 1);
    t.true(await service.drain(60_000));
    for (let n = 0; n < 2; n++) await caller.take('suspects');
  });
}
