import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { systemClock } from '../../src/lib/clock.js';
import { ConfirmChannel } from '../../src/rpc/confirm-channel.js';
import { doing, echo, held } from '../support/actions.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { connectTo } from '../support/connect-to.js';
import { eventually } from '../support/eventually.js';
import { type OwnBroker, ownBroker, startOwnBroker } from '../support/own-broker.js';
import { stuckQueue } from '../support/stuck-queue.js';
import { RawCaller, serveRequests } from '../support/requests.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker(['channel_max = 4']);
  });
  test.after.always(async (t) => t.context.remove?.());

  /** Asks for replies of which each is larger than all that the broker has accepted, so each needs a channel of its own. */
  const askForGrowing = async (caller: RawCaller, many: number, from: number) =>
    Promise.all(
      Array.from({ length: many }, async (_, n) =>
        caller.ask({ action: 'grow', action_parameters: { text: 'x'.repeat(from + n * 300) } }),
      ),
    );

  const open = async (t: ExecutionContext, broker: TestBroker, callers: TestBroker) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const grow = doing(async ({ parameters }) => ({ ...Object(parameters) }), { name: 'grow' });
    const served = await serveRequests(t, broker, [action, grow], { clusterConcurrency: 30 });
    const caller = await RawCaller.open(t, callers, served.queue);
    const losses = () => served.logs.find(/^broker connection lost$/);
    return { ...served, caller, begun, finishRun, losses };
  };

  test('with four channels, 30 requests that ran during a loss are answered, and no connection is lost for it', async (t) => {
    const { broker } = t.context;
    const { cut, begun, caller, finishRun, losses, service, logs } = await open(t, broker, broker);
    const ids = Array.from({ length: 30 }, (_, n) => caller.send({ action: 'act' }, { messageId: `m${n}` }));
    await eventually('they run', () => begun() === 30);
    cut();
    await eventually('the loss is seen', () => losses().length === 1);
    await eventually('it is restored', () => logs.find(/^broker connection restored$/).length === 1);
    finishRun();
    for (const id of ids) t.is((await caller.replyFor(id)).answer.status, 'completed');
    for (const { answer } of await askForGrowing(caller, 30, 1_000)) t.is(answer.status, 'completed');
    t.is(losses().length, 1);
    t.deepEqual(service.notReady(), []);
  });

  test('a message for which nobody waits any more keeps no channel from the next one', async (t) => {
    const { broker } = t.context;
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const stuck = await stuckQueue(t, broker);
    const channel = await ConfirmChannel.open(connection);
    const publish = async (routingKey: string, bytes: number, signal?: AbortSignal) =>
      channel.publish({ exchange: '', routingKey }, Buffer.alloc(bytes), {}, { stop: signal && { signal } });
    const given = new AbortController();
    const waiting = [100, 200, 300].map(async (bytes) => publish(stuck, bytes, given.signal));
    const next = publish('no_such_queue', 1_000);
    given.abort(new Error('nobody waits'));
    for (const each of waiting) await t.throwsAsync(each, { message: 'nobody waits' });
    t.is(await next, 'unroutable');
    t.false(connection.lost.aborted);
  });

  test('a limit on the channels of its user costs the service at most a few connections, and then none', async (t) => {
    const broker = await ownBroker(t);
    const limited = await broker.user('few', {});
    await broker.ctl('set_user_limits', 'few', '{"max-channels": 12}');
    const { caller, losses } = await open(t, limited, broker);
    // Each loss halves what it uses: how often that is needed depends on how many replies are sent at once.
    let before = -1;
    for (let from = 1_000; losses().length > before; from += 20_000) {
      before = losses().length;
      for (const { answer } of await askForGrowing(caller, 60, from)) t.is(answer.status, 'completed');
      t.true(losses().length >= 1 && losses().length <= 3, `${losses().length} losses`);
    }
    for (const { reason } of losses()) t.regex(String(reason), /number of channels opened for user 'few'/);
  });

  test('with too few channels it is not ready, and says how many the broker allows', async (t) => {
    const broker = await ownBroker(t, ['channel_max = 2']);
    const { service } = await serveRequests(t, broker, [echo], { waits: false });
    const problem = /^amqp:.* cannot be used: the broker allows no more than 2 channels on a connection$/;
    const said = await eventually('it says so', () => service.notReady().find((each) => problem.test(each)));
    t.deepEqual(service.notReady(), [said]);
  });
}
