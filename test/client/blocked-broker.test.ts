import anyTest, { type TestFn } from 'ava';
import { FleetManagerClient, type FleetManagerError } from '../../src/client/client.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { serveRequests } from '../support/requests.js';
import { StandInManager } from '../support/stand-in-manager.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  // One after the other, as the memory is the broker's.
  test.serial(
    'while the broker has no memory left, a call that is not sent fails with its reason, and so does readiness',
    async (t) => {
      const { broker } = t.context;
      const { queue } = await serveRequests(t, broker, [echo]);
      const clock = new ManualClock();
      const client = new FleetManagerClient({ urls: [broker.url], queue, clock });
      t.teardown(async () => client.close());
      await eventually('it is connected', () => client.problem === undefined);
      await broker.alarm(true);
      // The broker blocks a connection at the first message on it. That one is sent, the others are not.
      const sent = client.call('echo', { timeoutMs: HUNG_MS });
      await eventually('the client is told', () => client.problem !== undefined);
      t.is(client.problem, 'the broker accepts no messages: low on memory');
      const call = client.call('echo', { parameters: { text: 'x'.repeat(10_000) }, timeoutMs: 1_000 });
      clock.advance(3_000);
      const error = await t.throwsAsync<FleetManagerError>(call);
      t.is(error?.message, 'the broker accepts no messages: low on memory');
      t.is(error?.code, 'service_unavailable');
      await broker.alarm(false);
      await sent;
      t.is(client.problem, undefined);
    },
  );

  test.serial(
    'while the broker has no memory left, a change through the Manager is not sent, and fails with the reason',
    async (t) => {
      const { broker } = t.context;
      const connection = await broker.open();
      t.teardown(async () => connection.close());
      const channel = await connection.createChannel();
      await channel.assertExchange('exchange', 'topic', { durable: true });
      await channel.assertQueue('queue', { durable: true });
      await channel.bindQueue('queue', 'exchange', 'root.queue');
      const clock = new ManualClock();
      const manager = await StandInManager.start(t, { clock });
      manager.addExchange(7, { rootExchangeName: 'exchange', routingKey: 'root' });
      manager.addBroker(3, { connections: [{ host: '127.0.0.1', port: broker.port }] });
      const { url: managerUrl, oauthUrl: url, clientId, clientSecret } = manager;
      const oauth = { url, clientId, clientSecret };
      const client = new FleetManagerClient({
        queue: 'queue',
        manager: { managerUrl, oauth, exchangeId: 7, brokerId: 3 },
        clock,
      });
      t.teardown(async () => client.close());
      const leaving = new AbortController();
      const restart = async () => client.call('restart_unit', { signal: leaving.signal, timeoutMs: HUNG_MS });
      const queued = async () => (await channel.checkQueue('queue')).messageCount;
      // From then on requests of this size share a channel, so none waits for one.
      const calls = [restart()];
      await eventually('it is published', async () => (await queued()) === 1);
      await broker.alarm(true);
      calls.push(restart());
      await eventually('the client is told', () => client.problem !== undefined);
      const call = client.call('restart_unit', { timeoutMs: 1_000 });
      await eventually('its record is made', () => manager.records.size === 3);
      clock.advance(4_000);
      const error = await t.throwsAsync<FleetManagerError>(call);
      t.is(error?.code, 'service_unavailable');
      t.is(error?.message, 'the broker accepts no messages: low on memory');
      await broker.alarm(false);
      calls.push(restart());
      await eventually('the next one is published', async () => (await queued()) > 2);
      t.is(await queued(), 3, 'the one that failed was never sent');
      leaving.abort(new Error('enough'));
      for (const each of calls) await t.throwsAsync(each, { message: 'enough' });
    },
  );
}
