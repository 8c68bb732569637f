import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import { type IsolatedCall, MustRunAlone } from '../../src/core/isolation.js';
import { doing, held } from '../support/actions.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { checkingChannel } from '../support/checking-channel.js';
import { whenAborted } from '../../src/lib/when-aborted.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';
import { connectionLoser, loseWorker, makeQueue, RawCaller, serveRequests } from '../support/requests.js';

const REQUEST = JSON.stringify({ request_body: { action: 'act' } });

/** Returns what its handler is told of the request. */
const telling = doing(async ({ caller, repeated }) => ({ caller, repeated }));

/** Lets no request run. */
const { channel: endless } = checkingChannel();
const MOVED = /^request moved to the queue of suspects$/;

/** A queue from which a worker took one message before it was lost. */
async function afterALostWorker(t: ExecutionContext, broker: TestBroker, options: Options.Publish = {}) {
  const queue = `test_${randomUUID()}`;
  await makeQueue(broker, queue);
  const caller = await RawCaller.open(t, broker, queue);
  const id = caller.sendRaw(REQUEST, { messageId: 'm', ...options });
  await loseWorker(broker, queue, 1);
  return { queue, caller, id };
}

/** Lets a worker move what it gets to the queue of suspects, and takes it from there. */
async function movedCopy(t: ExecutionContext, broker: TestBroker, options: Options.Publish) {
  const { queue, caller, id } = await afterALostWorker(t, broker, options);
  const { service, logs } = await serveRequests(t, broker, [telling], { queue, channels: [endless] });
  await eventually('it is moved, and held', () => service.held === 1 && logs.find(MOVED).length === 1);
  await service.drain(0);
  await service.close();
  return { queue, caller, id, copy: await caller.take('suspects') };
}

// A request that another worker may have begun before it was lost.
for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  test(
    over(
      'a request that a lost worker may have begun is answered, and its handler knows that it is repeated',
    ),
    async (t) => {
      const { queue, caller, id } = await afterALostWorker(t, broker);
      const { service } = await serveRequests(t, broker, [telling], { queue });
      t.like((await caller.replyFor(id)).answer.response_body, { repeated: true });
      await eventually('nothing is held', () => service.held === 0);
      for (const each of ['queue', 'suspects', 'error queue'] as const)
        t.is(await caller.waiting(each), 0, each);
    },
  );

  test(
    over('a request that waits in the queue of suspects keeps what its reply and its order need'),
    async (t) => {
      const kept = {
        messageId: 'm',
        priority: 3,
        timestamp: Math.floor(Date.now() / 1_000),
        headers: { traceparent: 'a' },
      };
      const { caller, id, copy } = await movedCopy(t, broker, kept);
      const { headers: _, ...properties } = kept;
      t.like(copy.properties, { ...properties, replyTo: caller.replyQueue, correlationId: id });
      t.is(copy.properties.headers?.traceparent, 'a');
      t.is(copy.content.toString(), REQUEST);
    },
  );

  test(over('a request gets its time limit once, however often it is delivered'), async (t) => {
    // Sent a minute ago, by a caller that waits for half of that.
    const timestamp = Math.floor(Date.now() / 1_000) - 60;
    const { queue, caller, id } = await afterALostWorker(t, broker, {
      timestamp,
      headers: { 'timeout-ms': 30_000 },
    });
    await serveRequests(t, broker, [telling], { queue });
    t.is((await caller.replyFor(id)).answer.response_body.code, 'timeout');
  });

  test(
    over(
      'the deadline of a request is counted from its first redelivery when it does not say when it was sent',
    ),
    async (t) => {
      const { copy } = await movedCopy(t, broker, { headers: { 'timeout-ms': 30_000 } });
      const left = Number(copy.properties.headers?.['x-deadline']) - Date.now();
      t.true(left > 0 && left <= 30_000, String(left));
    },
  );

  test(
    over('a deadline in the queue of suspects is never later than the time limit of its caller'),
    async (t) => {
      const { queue } = await serveRequests(t, broker, [doing(async ({ deadline }) => ({ deadline }))]);
      const caller = await RawCaller.open(t, broker, `${queue}_suspects`);
      const headers = { 'timeout-ms': 20_000, 'x-deadline': Date.now() + 86_400_000 };
      const before = performance.now();
      const { answer } = await caller.replyFor(caller.sendRaw(REQUEST, { headers }));
      const left = Number(answer.response_body.deadline) - before;
      t.true(left <= 20_000 + (performance.now() - before) + 1, String(left));
    },
  );

  for (const [alone, what] of [
    [false, 'a request'],
    [true, 'a request that must run alone'],
  ] as const)
    test(over(`a worker that is lost with ${what} from the queue of suspects is counted`), async (t) => {
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, `${queue}_suspects`);
      const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
      suspects.sendRaw(REQUEST, { headers: { 'x-lost-workers': 4, 'x-alone': alone } });
      await loseWorker(broker, `${queue}_suspects`, 1);
      const { service, logs } = await serveRequests(t, broker, [telling], { queue, channels: [endless] });
      await eventually('it is moved, and held', () => service.held === 1 && logs.find(MOVED).length === 1);
      t.like(logs.find(MOVED)[0], { lost_workers: 5, alone: false });
      await service.drain(0);
      await service.close();
      const caller = await RawCaller.open(t, broker, queue);
      t.like((await caller.take('suspects')).properties.headers, { 'x-lost-workers': 5, 'x-alone': alone });
    });

  test(
    over('a request whose shared process ended is moved, and any worker that gets it runs it alone'),
    async (t) => {
      const isolated: boolean[] = [];
      const run = async ({ work, isAlone }: IsolatedCall) => {
        if (work === 'check') return {};
        isolated.push(isAlone);
        if (!isAlone) throw new MustRunAlone('exit code 7');
        return { text: 'done' };
      };
      const isolation = { enter: async () => ({ run, leave: () => {} }), run };
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, `${queue}_suspects`);
      const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
      const id = suspects.sendRaw(REQUEST, { headers: { 'x-lost-workers': 4 } });
      const { logs } = await serveRequests(t, broker, [telling], { queue, isolation });
      t.deepEqual((await suspects.replyFor(id)).answer.response_body, { text: 'done' });
      t.deepEqual(isolated, [false, true]);
      t.deepEqual(
        logs.find(MOVED).map(({ lost_workers, alone }) => [lost_workers, alone]),
        [[4, true]],
      );
    },
  );

  test(over('a request that must run alone must so after another worker was lost too'), async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, `${queue}_suspects`);
    const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
    const alone: boolean[] = [];
    const run = async ({ isAlone }: IsolatedCall) => {
      alone.push(isAlone);
      return {};
    };
    for (const mustRunAlone of [true, false]) {
      const id = suspects.sendRaw(REQUEST, { headers: { 'x-alone': mustRunAlone } });
      await loseWorker(broker, `${queue}_suspects`, 1);
      const isolation = { enter: async () => ({ run, leave: () => {} }), run };
      const { service } = await serveRequests(t, broker, [telling], { queue, isolation });
      await suspects.replyFor(id);
      await service.close();
      t.deepEqual(new Set(alone.splice(0)), new Set([mustRunAlone]));
    }
  });

  // The confirmation of the message by which it came is late, or not, when its process ends.
  for (const isLate of [false, true])
    test(
      over(
        `a request whose shared process ended runs alone also when it could not be moved${isLate ? ', and the last move was just confirmed' : ''}`,
      ),
      async (t) => {
        const isolated: boolean[] = [];
        let end = () => {};
        const run = async ({ work, isAlone }: IsolatedCall) => {
          if (work === 'check') return {};
          isolated.push(isAlone);
          if (isAlone) return { text: 'done' };
          await new Promise<void>((resolve) => (end = resolve));
          throw new MustRunAlone('exit code 7');
        };
        const isolation = { enter: async () => ({ run, leave: () => {} }), run };
        const queue = `test_${randomUUID()}`;
        await makeQueue(broker, `${queue}_suspects`);
        const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
        const link = faultyLink(broker);
        if (isLate) link.withholdConfirms(`${queue}_suspects`);
        const id = suspects.sendRaw(REQUEST, { messageId: 'm', persistent: true });
        await loseWorker(broker, `${queue}_suspects`, 1);
        await serveRequests(t, { ...broker, connect: link.connect }, [telling], { queue, isolation });
        await eventually('it runs', () => isolated.length === 1);
        link.refuseAndCut();
        end();
        if (isLate) {
          await eventually('its move is not confirmed yet', () => link.counts.withheld === 1);
          link.passWithheld();
        }
        t.deepEqual((await suspects.replyFor(id)).answer.response_body, { text: 'done' });
        t.is(link.counts.refused, 1);
        t.deepEqual(isolated, [false, true]);
      },
    );

  test(
    over(
      'that a request must run alone is known also to the worker that gets it when it could not be moved at first',
    ),
    async (t) => {
      let checks = 0;
      let end = () => {};
      const run = async ({ work, signal }: IsolatedCall) => {
        if (work === 'check') return ++checks === 1 ? {} : whenAborted(signal);
        await new Promise<void>((resolve) => (end = resolve));
        throw new MustRunAlone('exit code 7');
      };
      let runs = 0;
      const counted = async (call: IsolatedCall) => {
        if (call.work !== 'check') runs++;
        return run(call);
      };
      const isolation = { enter: async () => ({ run: counted, leave: () => {} }), run: counted };
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, `${queue}_suspects`);
      const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
      const link = faultyLink(broker);
      suspects.sendRaw(REQUEST, { messageId: 'm', persistent: true });
      await loseWorker(broker, `${queue}_suspects`, 1);
      const { service } = await serveRequests(t, { ...broker, connect: link.connect }, [telling], {
        queue,
        isolation,
      });
      await eventually('it runs', () => runs === 1);
      link.refuseAndCut();
      end();
      await eventually('it is here again', () => checks === 2);
      await service.drain(0);
      await service.close();
      const caller = await RawCaller.open(t, broker, queue);
      t.true((await caller.take('suspects')).properties.headers?.['x-alone']);
    },
  );

  test(over('a request runs also when 99 workers were lost that had it'), async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, `${queue}_suspects`);
    const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
    const id = suspects.sendRaw(REQUEST, { headers: { 'x-lost-workers': 98 } });
    await loseWorker(broker, `${queue}_suspects`, 1);
    await serveRequests(t, broker, [telling], { queue });
    t.is((await suspects.replyFor(id)).answer.status, 'completed');
  });

  test(
    over('a request that 100 workers had when they were lost is given up: answered and dead-lettered'),
    async (t) => {
      const queue = `test_${randomUUID()}`;
      await makeQueue(broker, `${queue}_suspects`);
      const suspects = await RawCaller.open(t, broker, `${queue}_suspects`);
      const id = suspects.sendRaw(REQUEST, { headers: { 'x-lost-workers': 99 } });
      await loseWorker(broker, `${queue}_suspects`, 1);
      const { action, begun } = held();
      const { service } = await serveRequests(t, broker, [action], { queue });
      t.is((await suspects.replyFor(id)).answer.response_body.code, 'worker_lost');
      await eventually('nothing is held', () => service.held === 0);
      const caller = await RawCaller.open(t, broker, queue);
      const dead = await caller.take('error queue');
      t.like(dead.properties.headers, { 'x-may-have-begun': true });
      t.regex(String(dead.properties.headers?.['x-reason']), /100 workers were lost/);
      t.is(begun(), 0);
    },
  );

  test(over('a request from the queue of suspects that runs here already runs once'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, service, cut } = await serveRequests(t, broker, [action], {});
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.sendRaw(REQUEST, { messageId: 'm', persistent: true });
    await eventually('it runs', () => begun() === 1);
    // Another worker has got it after a lost connection, and has moved it.
    const other = await RawCaller.open(t, broker, `${queue}_suspects`);
    const moved = { userId: 'guest', headers: { 'x-deadline': Date.now() + 60_000, 'x-lost-workers': 0 } };
    other.publish(REQUEST, { messageId: 'm', replyTo: caller.replyQueue, correlationId: id, ...moved });
    await eventually('both are held', () => service.held === 2);
    finishRun();
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 1);
    t.is(caller.repliesFor(id).length, 2);
    cut();
  });

  test(
    over('a caller that nobody has verified is not believed, nor does a move make it verified'),
    async (t) => {
      const headers = { 'x-caller': 'somebody' };
      const { queue, caller, id } = await afterALostWorker(t, broker, { headers });
      await serveRequests(t, broker, [telling], { queue });
      const { answer } = await caller.replyFor(id);
      t.deepEqual(answer.response_body.caller, JSON.parse(JSON.stringify(ANONYMOUS)));
      const { copy } = await movedCopy(t, broker, { headers });
      t.is(copy.properties.headers?.['x-caller'], '');
    },
  );

  test(over('the caller that a message in the queue of suspects claims is not believed'), async (t) => {
    const { queue } = await serveRequests(t, broker, [telling]);
    const stranger = await RawCaller.open(t, broker, `${queue}_suspects`);
    const { answer } = await stranger.replyFor(
      stranger.sendRaw(REQUEST, { headers: { 'x-caller': 'somebody', 'x-deadline': Date.now() + 60_000 } }),
    );
    t.deepEqual(answer.response_body.caller, JSON.parse(JSON.stringify(ANONYMOUS)));
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('RabbitMQ: a request keeps the caller that the broker has verified', async (t) => {
    const { queue, caller, id } = await afterALostWorker(t, rabbit, { userId: 'guest' });
    await serveRequests(t, rabbit, [telling], { queue });
    t.deepEqual((await caller.replyFor(id)).answer.response_body, {
      caller: { name: 'guest', verifiedBy: 'broker' },
      repeated: true,
    });
  });

  test('RabbitMQ: a request without an id has none when it is moved', async (t) => {
    const { copy } = await movedCopy(t, rabbit, { messageId: undefined });
    t.is(copy.properties.messageId, undefined);
  });

  test('RabbitMQ: a request that expired while it waited is answered', async (t) => {
    const { queue, service } = await serveRequests(t, rabbit, [telling]);
    await service.drain(0);
    await service.close();
    const caller = await RawCaller.open(t, rabbit, queue);
    const id = caller.sendRaw(REQUEST, { expiration: 1 });
    await eventually('it has expired', async () => (await caller.waiting('suspects')) === 1);
    await serveRequests(t, rabbit, [telling], { queue });
    t.is((await caller.replyFor(id)).answer.response_body.code, 'timeout');
  });

  test('RabbitMQ: a request that only waits as a suspect runs, however often the connection is lost', async (t) => {
    const { action, begun, finishRun } = held();
    const running = await serveRequests(t, rabbit, [action], { concurrency: 1 });
    const { queue, service } = running;
    const loseConnection = connectionLoser(running);
    const caller = await RawCaller.open(t, rabbit, queue);
    const first = caller.sendRaw(REQUEST, { messageId: 'first' });
    await eventually('one runs', () => begun() === 1);
    const suspects = await RawCaller.open(t, rabbit, `${queue}_suspects`);
    const headers = { 'x-deadline': Date.now() + 3_600_000, 'x-lost-workers': 0 };
    const waiting = suspects.sendRaw(REQUEST, { messageId: 'waiting', headers });
    await eventually('the other one waits', () => service.held === 2);
    for (let losses = 1; losses <= 12; losses++) await loseConnection(1);
    finishRun();
    t.like((await caller.replyFor(first)).answer, { status: 'completed' });
    await eventually('the other one runs', () => begun() === 2);
    finishRun();
    t.like((await suspects.replyFor(waiting)).answer, { status: 'completed' });
  });

  for (const limit of [undefined, 1, 3])
    test(`RabbitMQ: a request that waits in a quorum queue ${limit === undefined ? '' : `with the delivery limit ${limit}, and the queue of suspects for what exceeds it, `}runs, however often the connection is lost`, async (t) => {
      const queue = `test_${randomUUID()}`;
      await makeQueue(rabbit, queue, {
        ...(limit && { deadLetterExchange: '', deadLetterRoutingKey: `${queue}_suspects` }),
        arguments: { 'x-queue-type': 'quorum', ...(limit && { 'x-delivery-limit': limit }) },
      });
      const { action, begun, finishRun } = held({ effect: 'change' });
      const running = await serveRequests(t, rabbit, [action], { queue, concurrency: 1 });
      const { service } = running;
      const loseConnection = connectionLoser(running);
      const caller = await RawCaller.open(t, rabbit, queue);
      const sent = ['a', 'b', 'c'].map((messageId) =>
        caller.sendRaw(REQUEST, { messageId, persistent: true }),
      );
      await eventually('one runs', () => begun() === 1 && service.held === 3);
      for (let losses = 1; losses <= 6; losses++) await loseConnection(2);
      const answered = () => sent.map((id) => caller.repliesFor(id)[0]?.content.toString() ?? '');
      await eventually('all are answered', () => {
        finishRun();
        return answered().every((each) => each.includes('"completed"'));
      });
      t.is(begun(), 3);
    });
}
