import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { queuesOf } from '../src/rpc/queues.js';
import { startProgram } from './commands/cli-process.js';
import { rabbitmq } from './support/brokers.js';
import { HUNG_MS } from './support/eventually.js';
import { RawCaller } from './support/requests.js';
import { inRepository, REPOSITORY } from './support/repository.js';
import { startWorker } from './support/worker.js';
import { writePlugin } from './support/write-plugin.js';

// The other tests run the service compiled. A developer runs it from its TypeScript, with plugins in TypeScript.

const SOURCES = ['--import=tsx', inRepository('src/cli.ts')];

const GREET = `
  import { defineAction } from 'fleet-manager/plugin';
  import { object, string } from 'yup';
  import { word } from './word.js';
  export default defineAction({
    name: 'greet', summary: 'Greets.', target: 'none', effect: 'read',
    parameters: object({}),
    result: string().defined().meta({ description: 'A word.' }),
    handle: async () => word,
  });`;

const WORD = `
  export type Word = 'Hello';
  export const word: Word = 'Hello';`;

const EXIT = GREET.replace(/import .*word.*/, '').replace('=> word', '=> process.exit(7)');

const cliEnv = (env: Record<string, string>) => ({ env, directory: REPOSITORY });

test('npm start runs the service with a plugin in TypeScript, and ends with 0 when it is stopped', async (t) => {
  const PLUGIN_PATHS = await writePlugin(t, 'greet', GREET, 'index.ts');
  await writeFile(join(PLUGIN_PATHS, 'greet/word.ts'), WORD);
  const service = startProgram(t, ['npm', 'start'], cliEnv({ PLUGIN_PATHS, HTTP_PORT: '0' }));
  const [, url = ''] = await service.printed(/^ {2}gateway +(http:\S+)$/m);
  await service.printed(/accepting requests/);
  const call = ['npm', 'run', '-s', 'fleet-manager', '--', 'call', 'greet'] as const;
  const { stdout, stderr } = await startProgram(t, call, cliEnv({ HTTP_PORT: new URL(url).port })).ended;
  t.is(stdout, '"Hello"\n', stderr);
  service.kill('SIGTERM');
  t.is((await service.ended).code, 0);
});

test('a service that runs from its sources ends when a plugin blocks it, and names the plugin', async (t) => {
  const PLUGIN_PATHS = await writePlugin(t, 'looping', 'for (;;);', 'index.ts');
  const env = cliEnv({ PLUGIN_PATHS, WATCHDOG_SECONDS: '5' });
  const { signal, stderr } = await startProgram(t, [process.execPath, ...SOURCES, 'serve'], env).ended;
  t.is(signal, 'SIGKILL', stderr);
  t.true(stderr.includes(`${PLUGIN_PATHS}/looping`), stderr);
});

const broker = rabbitmq();
if (broker !== undefined)
  test('a service that runs from its sources runs a request that has ended a worker in processes of its own', async (t) => {
    const queue = `sources_${randomUUID()}`;
    t.teardown(async () => {
      const connection = await broker.open();
      const channel = await connection.createChannel();
      for (const name of queuesOf(queue)) await channel.deleteQueue(name);
      await connection.close();
    });
    const paths = await writePlugin(t, 'greet', EXIT);
    const env = { AMQP_URL: broker.url, QUEUE_NAME: queue, PLUGIN_PATHS: paths };
    const first = await startWorker(t, env, SOURCES);
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send({ action: 'greet' }, { headers: { 'timeout-ms': HUNG_MS } });
    t.is(await first.ended, 7);
    const second = await startWorker(t, env, SOURCES);
    t.like((await caller.replyFor(id)).answer.response_body, { code: 'worker_lost' });
    t.is(second.lines.filter(({ message }) => message === 'handler process ended').length, 2);
  });
