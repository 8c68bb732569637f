import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { DecidedClock } from '../support/decided-clock.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { type OwnBroker, ownBroker, startOwnBroker } from '../support/own-broker.js';
import { RawCaller, serveRequests } from '../support/requests.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  /** A service that has been connected for a second. */
  const serveForAWhile = async (t: ExecutionContext, broker: OwnBroker) => {
    const clock = new DecidedClock();
    const served = await serveRequests(t, broker, [echo], { clock });
    clock.pass(1_000);
    const lost = async (times: number) =>
      eventually('the loss is seen', () => served.logs.find(/^broker connection lost$/).length === times);
    const ready = async () => eventually('it is ready', () => served.service.notReady().length === 0);
    return { ...served, clock, lost, ready };
  };
  const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);

  test('after its queue was deleted it takes requests again at once', async (t) => {
    const { broker } = t.context;
    const { queue, clock, lost, ready } = await serveForAWhile(t, broker);
    for (let times = 1; times <= 3; times++) {
      const before = clock.sleeps.length;
      await broker.ctl('delete_queue', queue);
      await lost(times);
      await ready();
      const waits = clock.sleeps.slice(before);
      t.true(sum(waits) <= 100, waits.join(', '));
      clock.pass(1_000);
    }
    const caller = await RawCaller.open(t, broker, queue);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });

  test('after the broker closed its connections, service and client go on at once', async (t) => {
    const broker = await ownBroker(t);
    const { queue, clock, lost, ready, logs } = await serveForAWhile(t, broker);
    const callerClock = new DecidedClock();
    const client = new FleetManagerClient({ urls: [broker.url], queue, clock: callerClock });
    t.teardown(async () => client.close());
    await client.call('echo', { timeoutMs: HUNG_MS });
    callerClock.pass(1_000);
    await broker.closeConnections();
    await lost(1);
    t.regex(String(logs.find(/^broker connection lost$/)[0]?.reason), /closed by the test/);
    await ready();
    await client.call('echo', { timeoutMs: HUNG_MS, resend: true });
    t.true(sum(clock.sleeps) <= 100, `the service: ${clock.sleeps.join(', ')}`);
    t.true(sum(callerClock.sleeps) <= 100, `the client: ${callerClock.sleeps.join(', ')}`);
  });

  test('while the broker is down it waits at most a second between its attempts', async (t) => {
    const broker = await ownBroker(t);
    const { queue, clock, lost, ready } = await serveForAWhile(t, broker);
    await broker.stop();
    await lost(1);
    await eventually('it has tried for a while', () => sum(clock.sleeps) > 3_000);
    await broker.start();
    await ready();
    t.true(Math.max(...clock.sleeps) <= 1_000, clock.sleeps.join(', '));
    const caller = await RawCaller.open(t, broker, queue);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });

  test('a broker that accepts connections and sends nothing costs little, at the start and at each recovery', async (t) => {
    const broker = await ownBroker(t);
    const silent = createServer((socket) => void socket.on('error', () => {}).resume());
    t.teardown(() => void silent.close());
    await once(silent.listen(0, '127.0.0.1'), 'listening');
    const address = { url: `amqp://127.0.0.1:${(silent.address() as AddressInfo).port}` };
    const clock = new DecidedClock();
    const begun = clock.now();
    const { service, queue } = await serveRequests(t, broker, [echo], {
      clock,
      addresses: [address, { url: broker.url }],
    });
    t.true(clock.now() - begun < 2_500, `${clock.now() - begun} ms to start`);
    const isReady = () => service.notReady().length === 0;
    await broker.stop();
    await eventually('the loss is seen', () => !isReady());
    const lost = clock.now();
    // Longer than one attempt on the silent broker may take.
    await eventually('it has tried for a while', () => clock.now() - lost > 12_000);
    const from = clock.sleeps.length;
    await broker.start();
    await eventually('it is ready', isReady);
    t.true(Math.max(...clock.sleeps.slice(from)) <= 1_000);
    const caller = await RawCaller.open(t, broker, queue);
    t.is((await caller.ask({ action: 'echo' })).answer.status, 'completed');
  });
}
