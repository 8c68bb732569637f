import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { echo, held } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { loseWorker, makeQueue, RawCaller, serveRequests } from '../support/requests.js';

// Requests of the client that no service takes in time. Only RabbitMQ knows when they expire.
const broker = rabbitmq();
if (broker !== undefined) {
  /** A queue that no service serves yet, which moves what expires to its error queue; and a client. */
  const open = async (t: ExecutionContext, options: Options.AssertQueue = {}) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(broker, `${queue}_error`);
    const deadLetters = { deadLetterExchange: '', deadLetterRoutingKey: `${queue}_error` };
    await makeQueue(broker, queue, { ...deadLetters, ...options });
    const clock = new ManualClock();
    const client = new FleetManagerClient({ urls: [broker.url], queue, clock });
    t.teardown(async () => client.close());
    const caller = await RawCaller.open(t, broker, queue);
    const change = async (timeoutMs: number) => t.throwsAsync(client.call('act', { timeoutMs }));
    return { queue, clock, client, caller, change };
  };

  for (const type of ['classic', 'quorum'])
    test(`a change that waits in a ${type} queue for longer than its time never begins`, async (t) => {
      const { queue, clock, client, caller, change } = await open(t, { arguments: { 'x-queue-type': type } });
      const late = change(100);
      const dead = await caller.take('error queue');
      t.like(dead.properties.headers, { 'x-death': [{ reason: 'expired', queue }] });
      clock.advance(2_100);
      t.like(await late, { code: 'outcome_unknown' });
      const { action, begun } = held({ effect: 'change' });
      await serveRequests(t, broker, [action, echo], { queue });
      t.deepEqual(await client.call('echo', { parameters: { number: 7 } }), { number: 7 });
      t.is(begun(), 0);
    });

  test('a change behind one with more time never begins either when its time is up', async (t) => {
    const { queue, clock, client, caller, change } = await open(t);
    const inTime = client.call('act', { timeoutMs: 600_000 });
    await eventually('it waits', async () => (await caller.waiting()) === 1);
    const late = change(100);
    // RabbitMQ drops what has expired when it is the first of its queue.
    await eventually('both wait', async () => (await caller.waiting()) === 2);
    // By the broker's clock, which the test cannot set.
    await sleep(200);
    const { action, begun, finishRun } = held({ effect: 'change' });
    await serveRequests(t, broker, [action, echo], { queue });
    await client.call('echo');
    t.is(begun(), 1);
    finishRun();
    await inTime;
    clock.advance(2_100);
    t.like(await late, { code: 'outcome_unknown' });
  });

  test('a request that a lost worker held expires when it would have expired in the queue', async (t) => {
    const { queue, clock, caller, change } = await open(t);
    const late = change(10_000);
    await loseWorker(broker, queue, 1);
    const dead = await caller.take('error queue');
    t.like(dead.properties.headers, { 'timeout-ms': 10_000, 'x-death': [{ reason: 'expired', queue }] });
    clock.advance(12_000);
    t.like(await late, { code: 'outcome_unknown' });
  });
}
