import { randomUUID } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { type OwnBroker, ownBroker, startOwnBroker } from '../support/own-broker.js';
import { makeQueue, RawCaller, serveRequests } from '../support/requests.js';
import { tellQueue } from '../support/stuck-queue.js';
import { queuesOf } from '../../src/rpc/queues.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

// A queue that hangs, as a quorum queue without its majority does, while the service or a client sets up its connection.
const other = rabbitmq();
if (other !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  /** Names of a service's queue and its error queue, of which one hangs on the broker until `resume`. */
  const hungQueue = async (t: ExecutionContext, broker: OwnBroker, which: 'queue' | 'error queue') => {
    const queue = `test_${randomUUID()}`;
    const hung = which === 'queue' ? queue : `${queue}_error`;
    for (const each of queuesOf(queue)) await makeQueue(broker, each);
    await tellQueue(broker, hung, 'suspend');
    let hangs = true;
    const resume = async () => {
      if (hangs) await tellQueue(broker, hung, 'resume');
      hangs = false;
    };
    t.teardown(resume);
    return { queue, hung, resume };
  };
  /** Waits, and lets time pass slowly meanwhile, as it does for what the brokers really do. */
  const timePasses = async (clock: ManualClock, until: string, reached: () => boolean) =>
    eventually(until, () => {
      clock.advance(20);
      return reached();
    });

  for (const which of ['queue', 'error queue'] as const)
    test(`a broker on which the ${which} hangs is left for the next one, and the log says what hangs`, async (t) => {
      const { broker } = t.context;
      const { queue, hung } = await hungQueue(t, broker, which);
      const clock = new ManualClock();
      const addresses = [{ url: broker.url }, { url: other.url }];
      const { service, logs } = await serveRequests(t, other, [echo], {
        queue,
        addresses,
        clock,
        waits: false,
      });
      await timePasses(clock, 'it is ready', () => service.notReady().length === 0);
      t.like(logs.find(/^broker connection lost$/)[0], {
        reason: `the broker has not answered within 10000 ms: look for the queue ${hung}`,
        broker: `amqp://127.0.0.1:${broker.port}`,
      });
      t.is(logs.find(/^broker connection restored$/).length, 1);
      const caller = await RawCaller.open(t, other, queue);
      t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
    });

  test('a broker without memory is waited for when the service connects, and log and readiness say so', async (t) => {
    const broker = await ownBroker(t);
    await broker.alarm(true);
    const clock = new ManualClock();
    const { service, logs } = await serveRequests(t, broker, [echo], { clock, waits: false });
    const why = 'the broker accepts no messages: low on memory';
    await eventually('it says so', () => service.notReady()[0] === why);
    t.is(logs.find(/^broker blocked$/).length, 1);
    const begun = clock.now();
    await timePasses(clock, 'it has waited for long', () => clock.now() - begun > 25_000);
    t.deepEqual(logs.find(/^broker connection lost$/), []);
    await broker.alarm(false);
    await timePasses(clock, 'it is ready', () => service.notReady().length === 0);
    t.is(logs.find(/^broker unblocked$/).length, 1);
  });

  test('while the queue hangs on the only broker, readiness says so, and the service goes on when it answers', async (t) => {
    const { broker } = t.context;
    const { queue, resume } = await hungQueue(t, broker, 'queue');
    const clock = new ManualClock();
    const { service } = await serveRequests(t, broker, [echo], { queue, clock, waits: false });
    const why = `amqp://127.0.0.1:${broker.port} cannot be used: the broker has not answered within 10000 ms: look for the queue ${queue}`;
    await timePasses(clock, 'it says what hangs', () => service.notReady()[0] === why);
    await resume();
    await timePasses(clock, 'it is ready', () => service.notReady().length === 0);
    const caller = await RawCaller.open(t, broker, queue);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });

  // Before the others: it closes their connections.
  test.serial('a client whose reply queue hangs when it connects again uses the next broker', async (t) => {
    const { broker } = t.context;
    const clock = new ManualClock();
    const urls = [broker.url, other.url];
    const client = new FleetManagerClient({ urls, clock });
    t.teardown(async () => client.close());
    const replyQueues = async () =>
      (await broker.ctl('list_queues', '-q', 'name')).match(/fleet_manager\.reply\.\S+/g) ?? [];
    await timePasses(clock, 'it is connected', () => client.problem === undefined);
    const [replyQueue = ''] = await replyQueues();
    await tellQueue(broker, replyQueue, 'suspend');
    t.teardown(async () => tellQueue(broker, replyQueue, 'resume'));
    await broker.closeConnections();
    await eventually('the loss is seen', () => client.problem !== undefined);
    await timePasses(clock, 'it is connected', () => client.problem === undefined);
    const connection = await other.open();
    t.teardown(async () => connection.close());
    t.like(await (await connection.createChannel()).checkQueue(replyQueue), { consumerCount: 1 });
  });
}
