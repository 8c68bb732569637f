import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { doing, echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { RawCaller, serveRequests } from '../support/requests.js';
import { stuckQueue, tellQueue } from '../support/stuck-queue.js';

type Context = { broker: OwnBroker; remove: () => Promise<void> };
const test = anyTest as TestFn<Context>;

const MEBIBYTE = 1024 * 1024;
const ECHO = { action: 'echo' };
const UNCONFIRMED = /^the broker did not confirm it in time$/;

// What hangs for one reply address must cost the others nothing.
if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  /** A service, a caller, and a reply queue that hangs. */
  const withStuckQueue = async (t: ExecutionContext<Context>, prefetch: number) => {
    const { broker } = t.context;
    const served = await serveRequests(t, broker, [echo], { prefetch });
    const caller = await RawCaller.open(t, broker, served.queue);
    await caller.ask(ECHO);
    const stuck = await stuckQueue(t, broker);
    const sendStuck = (many: number, timeoutMs: number) => {
      for (let n = 0; n < many; n++)
        caller.send(ECHO, { replyTo: stuck, headers: { 'timeout-ms': timeoutMs } });
    };
    return { ...served, caller, sendStuck, resume: async () => tellQueue(broker, stuck, 'resume') };
  };

  test('requests whose reply queue hangs keep out no other caller', async (t) => {
    const { caller, sendStuck, service, logs } = await withStuckQueue(t, 20);
    sendStuck(20, 300_000);
    await eventually('they are held', () => service.held === 20);
    t.is((await caller.ask(ECHO)).answer.status, 'completed');
    t.is(service.held, 20);
    t.deepEqual(logs.find(/^reply dropped$/), []);
  });

  test('a reply that is not confirmed while its caller waits is dropped, and its request acknowledged', async (t) => {
    const { sendStuck, service, logs, caller } = await withStuckQueue(t, 20);
    sendStuck(20, 1);
    const dropped = await eventually('they are dropped', () => {
      const lines = logs.find(/^reply dropped$/);
      return lines.length === 20 ? lines : undefined;
    });
    for (const { reason } of dropped) t.regex(String(reason), UNCONFIRMED);
    await eventually('none is held', () => service.held === 0);
    t.is((await caller.ask(ECHO)).answer.status, 'completed');
    t.is(logs.find(/^broker connection lost$/).length, 0);
  });

  test('a reply queue that resumes gets its replies', async (t) => {
    const { sendStuck, service, logs, resume } = await withStuckQueue(t, 200);
    sendStuck(100, 300_000);
    await eventually('they are held', () => service.held === 100);
    await resume();
    await eventually('none is held', () => service.held === 0);
    t.is(logs.find(/^request completed$/).length, 101);
    t.deepEqual(logs.find(/^reply dropped$/), []);
  });

  test('while replies that cannot be sent fill the memory, no further call begins', async (t) => {
    const { broker } = t.context;
    const stuck = await stuckQueue(t, broker);
    let [admitted, begun, settled] = [0, 0, 0];
    let open = () => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const action = doing(async () => gate.then(() => ({ text: 'x'.repeat(MEBIBYTE) })), { target: 'none' });
    const { queue, service, events, logs } = await serveRequests(t, broker, [action], {
      memoryBudgetBytes: 32 * MEBIBYTE,
      maxAnswerBytes: 2 * MEBIBYTE,
      concurrency: 4,
      clusterConcurrency: 4,
    });
    events.on('admitted', () => admitted++);
    events.on('began', () => begun++);
    events.on('settled', () => settled++);
    const caller = await RawCaller.open(t, broker, queue);
    for (let n = 0; n < 100; n++)
      caller.send({ action: 'act' }, { replyTo: stuck, headers: { 'timeout-ms': 300_000 } });
    await eventually('all wait or run', () => admitted === 100);
    open();
    await eventually('no more of them end', () => begun > 30 && settled === begun);
    t.true(begun <= 32 + 4, `${begun} have begun`);
    t.is(logs.find(/^reply memory used up$/).length, 1);
    await tellQueue(broker, stuck, 'resume');
    await eventually('none is held', () => service.held === 0);
    t.is(logs.find(/^request completed$/).length, 100);
    t.is(logs.find(/^reply memory free again$/).length, logs.find(/^reply memory used up$/).length);
  });

  test('many requests with a reply queue that hangs do not make RabbitMQ stop reading from the connection', async (t) => {
    const { caller, sendStuck, service } = await withStuckQueue(t, 2_000);
    sendStuck(1_000, 300_000);
    await eventually('they are held', () => service.held === 1_000);
    const ids = Array.from({ length: 600 }, () => caller.send(ECHO));
    for (const id of ids) t.is((await caller.replyFor(id)).answer.status, 'completed');
  });

  /** A caller with direct reply-to. */
  const directCaller = async (t: ExecutionContext<Context>, queue: string) => {
    const connection = await t.context.broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const replies: string[] = [];
    await channel.consume(
      'amq.rabbitmq.reply-to',
      (message) => message && replies.push(String(message.properties.correlationId)),
      { noAck: true },
    );
    const ask = (correlationId: string, timeoutMs: number) =>
      channel.sendToQueue(queue, Buffer.from(JSON.stringify({ request_body: ECHO })), {
        replyTo: 'amq.rabbitmq.reply-to',
        correlationId,
        headers: { 'timeout-ms': timeoutMs },
      });
    return { ask, replies };
  };

  test('direct replies count as waiting until a connection for them is open, also when their connection is lost', async (t) => {
    const { broker } = t.context;
    const limited = await broker.user('limited again', {});
    const { queue, service, logs, cut } = await serveRequests(t, limited, [echo]);
    await broker.ctl('set_user_limits', 'limited again', '{"max-connections": 1}');
    const { ask, replies } = await directCaller(t, queue);
    ask('patient', 300_000);
    await eventually('it waits', () => logs.find(/^direct replies waiting$/).length === 1);
    cut();
    await eventually('the loss is seen', () => logs.find(/^broker connection lost$/).length === 1);
    await eventually('it waits again', () => /direct replies cannot be sent/.test(service.notReady().join()));
    t.deepEqual(logs.find(/^direct replies resumed$/), []);
    await broker.ctl('clear_user_limits', 'limited again', 'max-connections');
    await eventually('it is answered', () => replies.length > 0);
    t.is(logs.find(/^direct replies waiting$/).length, 1);
    t.is(logs.find(/^direct replies resumed$/).length, 1);
  });

  test('while the user may open no more connections, direct replies wait or are dropped, and others go on', async (t) => {
    const { broker } = t.context;
    const limited = await broker.user('limited', {});
    const { queue, service, logs } = await serveRequests(t, limited, [echo], { prefetch: 10 });
    await broker.ctl('set_user_limits', 'limited', '{"max-connections": 1}');
    const caller = await RawCaller.open(t, broker, queue);
    const { ask, replies } = await directCaller(t, queue);
    ask('late', 1);
    for (let n = 1; n < 10; n++) ask(`patient ${n}`, 300_000);
    t.is((await caller.ask(ECHO)).answer.status, 'completed');
    const [dropped] = await eventually('one is dropped', () => {
      const lines = logs.find(/^reply dropped$/);
      return lines.length === 1 ? lines : undefined;
    });
    const REFUSED = /direct replies cannot be sent: .*connection limit \(1\) is reached/;
    t.regex(String(dropped?.reason), REFUSED);
    t.regex(service.notReady()[0] ?? '', REFUSED);
    t.is(logs.find(/^direct replies waiting$/).length, 1);
    await broker.ctl('clear_user_limits', 'limited', 'max-connections');
    await eventually('the others are answered', () => replies.length === 9);
    t.false(replies.includes('late'));
    t.is(logs.find(/^direct replies resumed$/).length, 1);
    t.deepEqual(service.notReady(), []);
  });
}
