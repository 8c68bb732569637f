import test from 'ava';
import { FleetManagerClient, type FleetManagerError } from '../../src/client/client.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { ownBroker } from '../support/own-broker.js';
import { serveRequests } from '../support/requests.js';

if (rabbitmq() !== undefined)
  test('while the broker has no memory left, a call that is not sent fails with its reason, and so does readiness', async (t) => {
    const broker = await ownBroker(t);
    const { queue } = await serveRequests(t, broker, [echo]);
    const client = new FleetManagerClient({ urls: [broker.url], queue });
    t.teardown(async () => client.close());
    await eventually('it is connected', () => client.problem === undefined);
    await broker.ctl('set_vm_memory_high_watermark', '0.000001');
    // The broker blocks a connection at the first message on it. That one is sent, the others are not.
    const sent = client.call('echo', { timeoutMs: HUNG_MS });
    await eventually('the client is told', () => client.problem !== undefined);
    t.is(client.problem, 'the broker accepts no messages: low on memory');
    const call = client.call('echo', { parameters: { text: 'x'.repeat(10_000) }, timeoutMs: 1_000 });
    const error = await t.throwsAsync<FleetManagerError>(call);
    t.is(error?.message, 'the broker accepts no messages: low on memory');
    t.is(error?.code, 'service_unavailable');
    await broker.ctl('set_vm_memory_high_watermark', '0.8');
    await sent;
    t.is(client.problem, undefined);
  });
