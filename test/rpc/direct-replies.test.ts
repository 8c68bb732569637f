import { getEventListeners } from 'node:events';
import test from 'ava';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { DirectReplies, isDirectReply } from '../../src/rpc/direct-replies.js';
import { PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import { type Answer, fakeConnection } from '../support/fake-connection.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';

const TO = { exchange: '', routingKey: 'amq.rabbitmq.reply-to.x' };
const NEVER = new AbortController().signal;

/** Direct replies; each connection that is opened for them answers as the next of these lists says, or does not open. */
function open(...connections: (Answer[] | Error)[]) {
  const clock = new ManualClock();
  const { log, lines } = logLines();
  const opened: BrokerConnection[] = [];
  const main = fakeConnection(
    () => 'confirms',
    async () => {
      const next = connections.shift() ?? [];
      if (next instanceof Error) throw next;
      const connection = fakeConnection(() => next.shift() ?? 'confirms');
      opened.push(connection);
      return connection;
    },
  );
  const replies = new DirectReplies(clock, log);
  const publish = async (signal = NEVER) => replies.publish(main, TO, Buffer.from('x'), {}, signal);
  const areOpen = () => opened.map(({ lost }) => !lost.aborted);
  return { replies, main, opened, open: areOpen, publish, clock, lines };
}

test('a direct reply is one to the default exchange and an address that RabbitMQ has made', (t) => {
  t.true(isDirectReply(TO));
  t.false(isDirectReply({ ...TO, exchange: 'e' }));
  t.false(isDirectReply({ ...TO, routingKey: 'reply-to' }));
});

test('direct replies share a connection of their own, which is opened for the first one', async (t) => {
  const { publish, opened, replies, main } = open();
  t.is(opened.length, 0);
  t.deepEqual(await Promise.all([publish(), publish()]), ['routed', 'routed']);
  t.is(await publish(), 'routed');
  t.is(opened.length, 1);
  t.is(replies.problemOn(main), undefined);
});

test('their connection is closed with the one of the service', async (t) => {
  const { publish, main, open: isOpen } = open();
  await publish();
  t.deepEqual(isOpen(), [true]);
  main.lose(new Error('cut'));
  await settle();
  t.deepEqual(isOpen(), [false]);
  await t.throwsAsync(publish(), { message: 'cut' });
});

test('when it is lost, the next reply opens another one, and nothing of the lost one is kept', async (t) => {
  const { publish, opened, main } = open();
  const kept: number[] = [];
  for (let count = 1; count <= 3; count++) {
    t.is(await publish(), 'routed');
    t.is(opened.length, count);
    kept.push(getEventListeners(main.lost, 'abort').length);
    opened.at(-1)?.lose(new Error('cut'));
    await settle();
  }
  t.false(main.lost.aborted);
  t.is(new Set(kept).size, 1);
});

test('a connection for them that cannot be opened is tried again, after longer and longer waits, and both are told', async (t) => {
  const failures = Array.from({ length: 6 }, () => new Error('no more connections'));
  const { publish, replies, main, clock, lines } = open(...failures);
  const sent = watched(publish());
  const waits: number[] = [];
  for (let tried = 1; tried <= 6; tried++) {
    await settle();
    t.is(replies.problemOn(main), 'direct replies cannot be sent: no more connections');
    t.is(sent(), undefined);
    const from = clock.now();
    clock.leap();
    waits.push(clock.now() - from);
  }
  await settle();
  t.is(sent(), 'routed');
  t.true((waits[0] ?? 0) >= 250 && (waits[0] ?? 0) <= 500, String(waits));
  t.true((waits[5] ?? 0) >= 2_500 && (waits[5] ?? 0) <= 5_000, String(waits));
  t.is(replies.problemOn(main), undefined);
  t.deepEqual(
    lines.map(({ level, message, reason }) => [level, message, reason]),
    [
      ['warn', 'direct replies waiting', 'no more connections'],
      ['info', 'direct replies resumed', undefined],
    ],
  );
});

test('when the connection of the service is lost meanwhile, none is opened any more', async (t) => {
  const { publish, main, clock, opened, replies } = open(new Error('no more connections'));
  const sent = publish();
  await settle();
  main.lose(new Error('cut'));
  await t.throwsAsync(sent, { message: 'cut' });
  t.is(clock.pending, 0);
  t.is(opened.length, 0);
  await settle();
  t.is(replies.problemOn(main), undefined);
});

test('a reply whose caller waits no more is not waited for', async (t) => {
  const { publish } = open(['waits']);
  const caller = new AbortController();
  const sent = publish(caller.signal);
  await settle();
  caller.abort(new Error('too late'));
  await t.throwsAsync(sent, { message: 'too late' });
});

test('a reply that cost the shared connection is sent again on one of its own, which is closed then', async (t) => {
  const { publish, opened, open: isOpen } = open(['closes']);
  t.is(await publish(), 'routed');
  await settle();
  t.is(opened.length, 2);
  t.deepEqual(isOpen(), [false, false]);
});

test('a reply whose own connection is lost too is tried again after a wait, and so is one that cannot have any', async (t) => {
  const { publish, opened, clock, open: isOpen } = open(['closes'], ['closes'], new Error('no more'), []);
  const sent = watched(publish());
  for (const tries of [2, 2]) {
    await settle();
    t.is(sent(), undefined);
    t.is(opened.length, tries);
    t.is(clock.pending, 1);
    clock.leap();
  }
  await settle();
  t.is(sent(), 'routed');
  await settle();
  t.deepEqual(isOpen(), [false, false, false]);
});

test('an address that the broker does not know is refused, and costs no other reply', async (t) => {
  const unknown: Answer[] = ['does not know the address'];
  const { publish, open: isOpen } = open([...unknown], [...unknown]);
  const error = await t.throwsAsync(publish(), { instanceOf: PublishRefused });
  t.is(error?.message, 'INTERNAL_ERROR');
  await settle();
  t.deepEqual(isOpen(), [false, false]);
  t.is(await publish(), 'routed');
});

test('a reply that AMQP cannot encode is not tried again, on a shared connection or its own', async (t) => {
  const first = open(['cannot be encoded']);
  await t.throwsAsync(first.publish(), { instanceOf: UnpublishableError });
  t.is(first.opened.length, 1);
  const second = open(['closes'], ['cannot be encoded']);
  await t.throwsAsync(second.publish(), { instanceOf: UnpublishableError });
  t.is(second.opened.length, 2);
});

test('with the connection of the service its replies end too', async (t) => {
  const { publish, main, opened } = open(['closes'], ['waits']);
  const sent = publish();
  await settle();
  t.is(opened.length, 2);
  main.lose(new Error('cut'));
  opened[1]?.lose(new Error('cut too'));
  await t.throwsAsync(sent, { message: 'cut too' });
});

test('at most four connections for one reply each are open at the same time', async (t) => {
  const all = Array.from({ length: 7 }, (): Answer[] => ['waits']);
  const { publish, opened } = open(Array(6).fill('waits'), ...all);
  const caller = new AbortController();
  const sent = Array.from({ length: 6 }, async () => publish(caller.signal));
  await settle();
  opened[0]?.lose(new Error('cut'));
  await settle();
  t.is(opened.length, 1 + 4);
  caller.abort(new Error('too late'));
  t.deepEqual(
    (await Promise.allSettled(sent)).map(({ status }) => status),
    Array(6).fill('rejected'),
  );
});
