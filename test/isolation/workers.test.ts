import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { queuesOf } from '../../src/rpc/queues.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { loseWorker, makeQueue, RawCaller } from '../support/requests.js';
import { folder } from '../support/settings.js';
import { startWorker, type Worker } from '../support/worker.js';
import { writePlugin } from '../support/write-plugin.js';

// The service as it is run, with its handler processes, on a real RabbitMQ.
const broker = rabbitmq();

const SOURCE = (gate: string) => `
  import { existsSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { mixed, object, string } from 'yup';
  import { defineAction } from 'fleet-manager/plugin';
  const doings = {
    exit: () => process.exit(7),
    memory: () => { const all = []; for (;;) all.push(new Array(100_000).fill(all.length)); },
    block: () => { for (;;); },
    wait: async () => { while (!existsSync(${JSON.stringify(gate)})) await sleep(20); },
  };
  export default defineAction({
    name: 'act', summary: 'Does what the test says.', target: 'none', effect: 'read',
    parameters: object({
      does: string().required().meta({ description: 'What.', format: 'doing' })
        .test('poison', 'no', (value) => value !== 'exit in the check' || process.exit(7)),
    }),
    result: mixed().meta({ format: 'anything' }),
    handle: async ({ parameters: { does }, log, repeated }) => {
      log.info('it runs', { does });
      await doings[does]();
      return { repeated };
    },
  });`;

interface World {
  queue: string;
  caller: RawCaller;
  env: Record<string, string>;
  /** Lets the calls that wait end. */
  finish(): Promise<void>;
}

async function world(t: ExecutionContext, given: TestBroker): Promise<World> {
  const gate = join(await folder(t), 'gate');
  const queue = `isolation_${randomUUID()}`;
  await makeQueue(given, queue);
  t.teardown(async () => {
    const connection = await given.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  return {
    queue,
    caller: await RawCaller.open(t, given, queue),
    env: {
      AMQP_URL: given.url,
      QUEUE_NAME: queue,
      PLUGIN_PATHS: await writePlugin(t, 'act', SOURCE(gate)),
      NODE_OPTIONS: '--max-old-space-size=128',
      WATCHDOG_SECONDS: '3',
    },
    finish: async () => writeFile(gate, ''),
  };
}

const ask = ({ caller }: World, does: string) =>
  caller.send({ action: 'act', action_parameters: { does } }, { headers: { 'timeout-ms': HUNG_MS } });

const reply = async ({ caller }: World, id: string) => (await caller.replyFor(id)).answer.response_body;

const lines = ({ lines: all }: Worker, message: string) => all.filter((line) => line.message === message);

const isGone = (pid: unknown) => {
  try {
    return !process.kill(Number(pid), 0);
  } catch {
    return true;
  }
};

if (broker !== undefined) {
  for (const [does, how] of [
    ['exit', 'exit code 7'],
    ['exit in the check', 'exit code 7'],
    ['memory', 'SIGABRT'],
    ['block', 'SIGKILL'],
  ] as const) {
    test(`a request that ends its worker ends no other, and the others get their replies: ${does}`, async (t) => {
      const parts = await world(t, broker);
      const first = await startWorker(t, parts.env);
      const innocent = [1, 2, 3].map(() => ask(parts, 'wait'));
      await eventually('they run', () => lines(first, 'it runs').length === 3);
      const poison = ask(parts, does);
      t.is(await first.ended, how === 'exit code 7' ? 7 : how);
      const second = await startWorker(t, parts.env);
      await eventually('its process has ended', () => lines(second, 'handler process ended').length === 1);
      await parts.finish();
      const { code, errors } = await reply(parts, poison);
      t.is(code, 'worker_lost', errors?.join());
      const dead = await parts.caller.take('error queue');
      t.is(dead.properties.correlationId, poison);
      t.regex(String(dead.properties.headers?.['x-reason']), /have ended twice/);
      t.is(await parts.caller.waiting('error queue'), 0);
      for (const id of innocent) t.deepEqual(await reply(parts, id), { repeated: true });
      // The log line about a reply may be read after the reply.
      await eventually('all are completed', () => lines(second, 'request completed').length === 3);
      t.deepEqual(
        lines(second, 'handler process ended').map((line) => line.how),
        [how, how],
      );
      t.is(second.process.exitCode, null, 'it still serves');
      t.deepEqual(await reply(parts, ask(parts, 'wait')), { repeated: false });
    });
  }

  test('a worker that is killed takes its handler process with it', async (t) => {
    const parts = await world(t, broker);
    ask(parts, 'wait');
    await loseWorker(broker, parts.queue, 1);
    const worker = await startWorker(t, parts.env);
    await eventually('it runs', () => lines(worker, 'it runs').length === 1);
    const [{ pid } = {}] = lines(worker, 'handler process started');
    t.false(isGone(pid));
    worker.process.kill('SIGKILL');
    await eventually('it has ended', () => isGone(pid));
    t.pass();
  });

  test('a worker that ends at once ends its handler process too, also when that is blocked', async (t) => {
    const parts = await world(t, broker);
    ask(parts, 'block');
    await loseWorker(broker, parts.queue, 1);
    const worker = await startWorker(t, parts.env);
    await eventually('it runs', () => lines(worker, 'handler process started').length === 1);
    const [{ pid } = {}] = lines(worker, 'handler process started');
    worker.process.kill('SIGTERM');
    await eventually('it drains', () => lines(worker, 'shutting down').length === 1);
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 143);
    await eventually('it has ended', () => isGone(pid));
  });

  test('a worker that is stopped replies to what runs in its handler process, and ends that', async (t) => {
    const parts = await world(t, broker);
    const id = ask(parts, 'wait');
    await loseWorker(broker, parts.queue, 1);
    const worker = await startWorker(t, { ...parts.env, SHUTDOWN_GRACE_SECONDS: '300' });
    await eventually('it runs', () => lines(worker, 'it runs').length === 1);
    const [{ pid } = {}] = lines(worker, 'handler process started');
    process.kill(Number(pid), 'SIGTERM');
    worker.process.kill('SIGTERM');
    await eventually('it drains', () => lines(worker, 'shutting down').length === 1);
    await parts.finish();
    t.deepEqual(await reply(parts, id), { repeated: true });
    t.is(await worker.ended, 0);
    t.like(worker.lines.at(-1), { message: 'shut down', clean: true });
    t.true(isGone(pid));
    t.deepEqual(lines(worker, 'handler process ended'), []);
  });
}
