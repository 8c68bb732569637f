import type { Options } from 'amqplib';
import test from 'ava';
import type { Delivery } from '../../src/rpc/consumer.js';
import type { PublishOutcome } from '../../src/rpc/publish-channel.js';
import type { PublishWithin } from '../../src/rpc/publisher.js';
import { Republisher } from '../../src/rpc/republisher.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle } from '../support/open-runner.js';

interface Published {
  queue: string;
  content: string;
  options: Options.Publish;
  within: PublishWithin;
}

const SUSPECT = { lostWorkers: 0, mustRunAlone: false };

/** A republisher of the queue `q` whose messages have these outcomes, one after the other; then each is routed. */
function open(outcomes: (PublishOutcome | Error)[] = [], { declares = async () => {} } = {}) {
  const clock = new ManualClock();
  const { log, lines } = logLines();
  const stopped = new AbortController();
  const published: Published[] = [];
  const declared: string[] = [];
  const republisher = new Republisher({
    queue: 'q',
    stopped: stopped.signal,
    clock,
    log,
    publish: async ({ routingKey: queue }, content, options, within) => {
      published.push({ queue, content: String(content), options, within });
      const outcome = outcomes.shift() ?? 'routed';
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
  });
  const lost = new AbortController();
  const delivery = (properties: object = {}) => {
    let acknowledged = 0;
    const made: Partial<Delivery> = {
      content: Buffer.from('body'),
      properties: { headers: {}, ...properties } as Delivery['properties'],
      sender: { name: 'ops', verifiedBy: 'broker', door: undefined },
      suspect: undefined,
      connection: {
        user: 'worker',
        lost: lost.signal,
        lose: (reason: unknown) => lost.abort(reason),
        probe: async (ask: (channel: object) => Promise<unknown>) => {
          await declares();
          return ask({
            assertQueue: async (name: string, options: object) => {
              declared.push(`${name} ${JSON.stringify(options)}`);
            },
          });
        },
      } as unknown as Delivery['connection'],
      acknowledge: () => acknowledged++,
    };
    return { delivery: made as Delivery, acknowledged: () => acknowledged };
  };
  const messages = () => lines.map(({ level, message, queue }) => [level, message, queue]);
  return { republisher, clock, stopped, lost, published, declared, delivery, messages };
}

test('a message is published on its own connection, alone on a channel, and then acknowledged', async (t) => {
  const { republisher, published, delivery, messages } = open();
  const { delivery: message, acknowledged } = delivery({ correlationId: 'c', headers: { trace: 't' } });
  t.true(await republisher.deadLetter(message, 'no request'));
  const [{ queue, content, options, within }] = published as [Published];
  t.deepEqual([queue, content], ['q_error', 'body']);
  t.like(options, {
    correlationId: 'c',
    persistent: true,
    headers: { trace: 't', 'x-reason': 'no request' },
  });
  t.is(within.by, message.connection);
  t.true(within.alone);
  t.is(acknowledged(), 1);
  t.deepEqual(messages(), []);
});

test('a request that is requeued has less time by how long it was held, and at least a millisecond', async (t) => {
  for (const [heldMs, left] of [
    [400, 600],
    [999, 1],
    [1_000, 1],
    [5_000, 1],
  ] as const) {
    const { republisher, published, delivery, clock } = open();
    const arrivedAt = clock.now();
    clock.advance(heldMs);
    const properties = { expiration: '1000', headers: { 'timeout-ms': 1_000 } };
    t.true(await republisher.requeue(delivery(properties).delivery, arrivedAt));
    const headers = { 'timeout-ms': left, 'x-requeued': true, 'x-caller': 'ops' };
    t.like(published[0], { queue: 'q', options: { expiration: String(left), userId: 'worker', headers } });
  }
});

test('a request without time limits is requeued without any, and what is none stays as it is', async (t) => {
  const { republisher, published, delivery, clock } = open();
  await republisher.requeue(delivery().delivery, clock.now());
  t.false('expiration' in (published[0]?.options ?? {}));
  t.false('timeout-ms' in Object(published[0]?.options.headers));
  await republisher.requeue(delivery({ headers: { 'timeout-ms': 'soon' } }).delivery, clock.now());
  t.like(published[1]?.options.headers, { 'timeout-ms': 'soon' });
});

test('a suspect is moved with what the next worker must know', async (t) => {
  const { republisher, published, delivery, clock } = open();
  const { delivery: message } = delivery({ headers: { 'timeout-ms': 1_000 } });
  await republisher.moveToSuspects(message, { lostWorkers: 3, mustRunAlone: true });
  const deadline = clock.wallTime() + 1_000;
  const headers = { 'x-caller': 'ops', 'x-deadline': deadline, 'x-lost-workers': 3, 'x-alone': true };
  t.like(published[0], { queue: 'q_suspects', options: { headers } });
});

test('messages that wait for a full queue are told once, and that it has room when none waits any more', async (t) => {
  const { republisher, published, delivery, clock, messages } = open(['nacked', 'nacked']);
  t.false(republisher.isBlocked);
  const moved = ['a', 'b'].map(async () => republisher.moveToSuspects(delivery().delivery, SUSPECT));
  await settle();
  t.true(republisher.isBlocked);
  const began = ['warn', 'queue full', 'q_suspects'];
  t.deepEqual(messages(), [began]);
  t.is(clock.pending, 2);
  clock.advance(1_000);
  t.deepEqual(await Promise.all(moved), [true, true]);
  t.is(published.length, 4);
  t.false(republisher.isBlocked);
  t.deepEqual(messages(), [began, ['info', 'queue no longer full', 'q_suspects']]);
});

test('one message that has room does not mean that the queue has room for those that wait', async (t) => {
  const { republisher, delivery, clock, messages } = open(['nacked', 'routed', 'routed']);
  const waits = republisher.moveToSuspects(delivery().delivery, SUSPECT);
  await settle();
  await republisher.moveToSuspects(delivery().delivery, SUSPECT);
  t.is(messages().length, 1);
  clock.advance(1_000);
  await waits;
  t.is(messages().length, 2);
});

test('a queue that was deleted is declared once for all, and its messages are published again', async (t) => {
  let declare = () => {};
  const declares = async () => new Promise<void>((resolve) => (declare = resolve));
  const { republisher, published, declared, delivery, lost } = open(['unroutable', 'unroutable'], {
    declares,
  });
  const moved = ['a', 'b'].map(async () => republisher.moveToSuspects(delivery().delivery, SUSPECT));
  await settle();
  t.is(published.length, 2);
  declare();
  t.deepEqual(await Promise.all(moved), [true, true]);
  t.is(declared.length, 1);
  t.regex(declared[0] ?? '', /^q_suspects .*"durable":true/);
  t.is(published.length, 4);
  t.false(lost.signal.aborted);
});

test('a later message declares the queue again when it was deleted again', async (t) => {
  const { republisher, declared, delivery } = open(['unroutable', 'routed', 'unroutable', 'routed']);
  for (const times of [1, 2]) {
    t.true(await republisher.deadLetter(delivery().delivery, 'no request'));
    t.is(declared.length, times);
  }
});

test('without its queue a message is left to a new connection, which declares it, and is not acknowledged', async (t) => {
  for (const [outcomes, move] of [
    [['unroutable', 'unroutable'], 'deadLetter'],
    [['unroutable'], 'requeue'],
  ] as const) {
    const { republisher, delivery, lost, published } = open([...outcomes]);
    const { delivery: message, acknowledged } = delivery();
    t.false(
      await (move === 'requeue' ? republisher.requeue(message, 0) : republisher.deadLetter(message, 'no')),
    );
    t.regex(String(lost.signal.reason), /the queue q\w* does not exist/);
    t.is(published.length, outcomes.length);
    t.is(acknowledged(), 0);
  }
});

test('a queue that cannot be declared loses the connection', async (t) => {
  const declares = async () => {
    throw new Error('not allowed');
  };
  const { republisher, delivery, lost } = open(['unroutable'], { declares });
  t.false(await republisher.deadLetter(delivery().delivery, 'no request'));
  t.is(lost.signal.reason.message, 'not allowed');
});

test('after the loss of its connection a message is neither published nor acknowledged: the broker has it', async (t) => {
  const { republisher, delivery, lost, published, clock } = open(['nacked']);
  const { delivery: waits, acknowledged } = delivery();
  const moved = republisher.deadLetter(waits, 'no request');
  await settle();
  lost.abort(new Error('lost'));
  t.false(await moved);
  t.false(await republisher.deadLetter(delivery().delivery, 'no request'));
  t.is(published.length, 1);
  t.is(acknowledged(), 0);
  t.is(clock.pending, 0);
});

test('a message whose connection is lost while it is published is not acknowledged', async (t) => {
  for (const outcome of ['routed', new Error('cut')] as const) {
    const { republisher, delivery, lost } = open([outcome]);
    const { delivery: message, acknowledged } = delivery();
    const moved = republisher.deadLetter(message, 'no request');
    lost.abort(new Error('lost'));
    t.false(await moved);
    t.is(acknowledged(), 0);
  }
});

test('a message that waits when the service stops is not published any more', async (t) => {
  const { republisher, delivery, stopped, published } = open(['nacked']);
  const { delivery: message, acknowledged } = delivery();
  const moved = republisher.deadLetter(message, 'no request');
  await settle();
  stopped.abort(new Error('stopped'));
  await t.throwsAsync(moved, { message: 'stopped' });
  t.is(published.length, 1);
  t.is(acknowledged(), 0);
  t.false(republisher.isBlocked);
});

test('what refuses a message for ever is an error of its handling, while its connection lives', async (t) => {
  const { republisher, delivery, lost } = open([new Error('refused')]);
  await t.throwsAsync(republisher.deadLetter(delivery().delivery, 'no request'), { message: 'refused' });
  t.false(lost.signal.aborted);
});
