import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { startWorker } from '../support/worker.js';

const CALLERS = 80;
/** A result like the list of a cluster of 5,000 units, 8 MB, which calls share. */
const PLUGIN = `
import { defineAction } from 'fleet-manager/plugin';
import { array, mixed, object } from 'yup';
const option = (n) => ({ section: 'Service', name: 'Environment', value: 'VAR' + n + '=' + 'x'.repeat(20) });
const unit = (n) => ({ name: 'unit' + n, options: Array.from({ length: 18 }, (_, i) => option(i)) });
const units = Array.from({ length: 5_000 }, (_, n) => unit(n));
export default defineAction({
  name: 'list_many',
  summary: 'Returns a large list.',
  target: 'none',
  effect: 'read',
  parameters: object({}),
  result: array(mixed().meta({ format: 'anything' })),
  handle: async () => units,
});
`;
const REQUEST = [
  'POST /v1/actions/list_many HTTP/1.1',
  'host: localhost',
  'connection: close',
  'content-type: application/json',
  'timeout-ms: 300000',
  'content-length: 2',
  '',
  '{}',
].join('\r\n');

const broker = rabbitmq();
if (broker !== undefined) {
  test('a worker with a small heap outlives many callers that do not read their large replies', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'fleet-manager-plugin-'));
    t.teardown(async () => rm(folder, { recursive: true }));
    await mkdir(join(folder, 'list-many'));
    await writeFile(join(folder, 'list-many', 'index.js'), PLUGIN);
    await writeFile(join(folder, 'package.json'), '{"type":"module"}');
    const worker = await startWorker(t, {
      NODE_OPTIONS: '--max-old-space-size=256',
      NODE_ENV: 'production',
      AMQP_URL: broker.url,
      QUEUE_NAME: `test_${randomUUID()}`,
      PLUGIN_PATHS: folder,
      HTTP_PORT: '0',
      ETCD_DISCOVERY_URL: 'http://127.0.0.1:1',
    });
    const lines = (phrase: string) => worker.lines.filter(({ message }) => message === phrase);
    const { http } = await eventually('it has started', () => lines('service started')[0]);
    const port = Number(new URL(String(http)).port);
    const callers = Array.from({ length: CALLERS }, () => {
      const socket = connect(port, '127.0.0.1').pause();
      t.teardown(() => socket.destroy());
      socket.write(REQUEST);
      return socket;
    });
    const dead = worker.ended.then((code) => {
      throw new Error(`the worker ended with ${code}`);
    });
    const ran = () => lines('request completed').length === CALLERS;
    await Promise.race([dead, eventually('all calls have run', ran)]);
    const replies = await Promise.race([dead, Promise.all(callers.map(async (each) => text(each)))]);
    const statuses = replies.map((reply) => reply.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));
    t.true(statuses.includes('200'));
    t.deepEqual([...new Set(statuses)].toSorted(), ['200', '503']);
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
  });
}
