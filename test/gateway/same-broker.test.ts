import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { startService } from '../../src/composition.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ownBroker } from '../support/own-broker.js';
import { startProxy } from '../support/proxy.js';
import { folder, REACHES_NOTHING, serving } from '../support/settings.js';
import { writeChange } from '../support/write-plugin.js';

/** The change `wait`, which is done when `finish` is called. */
async function waitAction(t: ExecutionContext) {
  const done = join(await folder(t), 'done');
  const paths = await writeChange(t, 'wait', {
    imports: `import { existsSync } from 'node:fs';
     import { setTimeout as sleep } from 'node:timers/promises';`,
    handle: `async ({ log }) => {
         log.info('begun');
         while (!existsSync(${JSON.stringify(done)})) await sleep(20);
         return 'done';
       }`,
  });
  return { paths, finish: async () => writeFile(done, '') };
}

const first = rabbitmq();
if (first !== undefined)
  test('when the service moves to another broker alone, its gateway follows, and a call in flight gets its reply', async (t) => {
    const second = await ownBroker(t);
    const link = await startProxy(t, { port: Number(new URL(first.url).port) });
    const linked = new URL(first.url);
    linked.port = String(link.port);
    const { paths, finish } = await waitAction(t);
    const logs = logLines();
    const service = await startService({
      configuration: serving({
        AMQP_URL: `${linked.href},${second.url}`,
        QUEUE_NAME: `queue_${randomUUID()}`,
        PLUGIN_PATHS: paths,
        ...REACHES_NOTHING,
        SHUTDOWN_GRACE_SECONDS: '0',
      }),
      log: logs.log,
    });
    t.teardown(async () => service.stop());
    const call = async (action: string) => {
      const response = await fetch(`${service.httpUrl}/v1/actions/${action}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'timeout-ms': String(Math.min(HUNG_MS, 300_000)) },
        body: '{}',
      });
      const { response_body: body } = (await response.json()) as { response_body: unknown };
      return { status: response.status, body };
    };
    /** The connections to the second broker: those of the service, and those of its gateway. */
    const connections = async () => {
      const lines = (await second.ctl('list_connections', '-q', 'pid', 'client_properties')).split('\n');
      const pids = (name: RegExp) =>
        lines.filter((line) => name.test(line)).flatMap((line) => /^<\S+>/.exec(line) ?? []);
      return { service: pids(/"fleet-manager [^"]/), gateway: pids(/"fleet-manager-gateway [^"]/) };
    };
    const ready = async () => eventually('it is ready', () => service.notReady().length === 0);
    await ready();
    link.refuse();
    await eventually('both are on the second broker', async () => {
      const { service: own, gateway } = await connections();
      return own.length === 1 && gateway.length === 1;
    });
    await ready();
    const inFlight = call('wait');
    await eventually('it runs', () => logs.find(/^begun$/).length === 1);
    link.accept();
    const [pid = ''] = (await connections()).service;
    await second.ctl('close_connection', pid, 'closed by the test');
    await eventually('the service has left', async () => (await connections()).service.length === 0);
    await ready();
    // The reply to a request with wrong parameters comes from the service, through the queue.
    t.is((await call('list_machines')).status, 400);
    await finish();
    t.deepEqual(await inFlight, { status: 200, body: 'done' });
    await eventually('the gateway has left', async () => (await connections()).gateway.length === 0);
  });
