import { randomUUID } from 'node:crypto';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { queuesOf } from '../../src/rpc/queues.js';
import type { TestBroker } from '../support/brokers.js';
import { ownEtcd } from '../support/own-etcd.js';
import { startProxy } from '../support/proxy.js';
import { folder } from '../support/settings.js';
import { writePlugin } from '../support/write-plugin.js';

/** The settings of two workers on a queue of their own, which agree in an etcd of their own, or not. */
export async function twoWorkers(t: ExecutionContext, broker: TestBroker, { claims = true } = {}) {
  const queue = `claims_${randomUUID()}`;
  const etcd = await ownEtcd(t);
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const env: Record<string, string> = { QUEUE_NAME: queue, ...(claims && { CLAIMS_ETCD_URL: etcd.url }) };
  const { port } = new URL(broker.url);
  const proxied = async () => {
    const proxy = await startProxy(t, { port: Number(port) });
    return { proxy, env: { ...env, AMQP_URL: broker.url.replace(`:${port}`, `:${proxy.port}`) } };
  };
  const [a, b] = [await proxied(), await proxied()];
  return { queue, etcd, a: a.env, proxyOfA: a.proxy, b: b.env, proxyOfB: b.proxy };
}

/** A change of one unit, and one that can find out what came of it. Each notes that it runs, and waits until the test says. */
const PLUGIN = (directory: string, name: string, probe: string) => `
  import { appendFileSync, existsSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { defineAction, unitName } from 'fleet-manager/plugin';
  import { object, string } from 'yup';
  export default defineAction({
    name: '${name}', summary: 'Notes that it runs.', target: 'none', effect: 'change',
    parameters: object({ unit: unitName().required().meta({ description: 'The unit.' }) }),
    result: string().defined().meta({ description: 'Who did it.' }),
    async handle({ id }) {
      appendFileSync(${JSON.stringify(join(directory, 'effects'))}, id + '\\n');
      while (!existsSync(${JSON.stringify(join(directory, 'go'))})) await sleep(20);
      return 'made by ' + process.pid;
    },
    ${probe}
  });`;

/** Plugins with such changes, as a setting, and what they note. */
export async function marking(t: ExecutionContext) {
  const directory = await folder(t);
  await appendFile(join(directory, 'effects'), '');
  const probe = "async probe({ repeated }) { return 'found out: ' + repeated; },";
  const paths = [
    await writePlugin(t, 'mark', PLUGIN(directory, 'mark', '')),
    await writePlugin(t, 'mark_and_probe', PLUGIN(directory, 'mark_and_probe', probe)),
  ];
  return {
    plugins: paths.join(':'),
    /** The ids of the requests that ran, in order. */
    effects: async () => (await readFile(join(directory, 'effects'), 'utf8')).split('\n').filter(Boolean),
    go: async () => writeFile(join(directory, 'go'), ''),
  };
}
