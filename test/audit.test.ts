import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { startService } from '../src/composition.js';
import type { Connect } from '../src/rpc/open-connection.js';
import { auditStreamOf, queuesOf } from '../src/rpc/queues.js';
import { runCli } from './commands/cli-process.js';
import { cuttable, rabbitmq, type TestBroker } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { planted } from './support/planted-secrets.js';
import { RawCaller } from './support/requests.js';
import { folder, REACHES_NOTHING, serving } from './support/settings.js';
import { startWorker } from './support/worker.js';
import { writePlugin } from './support/write-plugin.js';

const PLANTED = planted('audit');
const rabbit = rabbitmq();

/** A change that runs until its file is there, and notes in another one that it has begun. */
async function steeredChange(t: ExecutionContext) {
  const directory = await folder(t);
  const [begun, go] = [join(directory, 'begun'), join(directory, 'go')];
  const PLUGIN_PATHS = await writePlugin(
    t,
    'steered',
    `import { appendFileSync, existsSync } from 'node:fs';
     import { setTimeout as sleep } from 'node:timers/promises';
     import { defineAction } from 'fleet-manager/plugin';
     import { object, string } from 'yup';
     export default defineAction({
       name: 'steered', summary: 'Waits for a file.', target: 'none', effect: 'change',
       parameters: object({
         password: string().meta({ description: 'A password.' }),
         pepper: string().meta({ secret: true, description: 'A secret.' }),
       }),
       result: string().defined().meta({ description: 'Nothing.' }),
       handle: async () => {
         appendFileSync(${JSON.stringify(begun)}, 'x');
         while (!existsSync(${JSON.stringify(go)})) await sleep(5);
         return 'done';
       },
     });`,
  );
  return {
    PLUGIN_PATHS,
    /** How many runs have begun. */
    begun: async () => (await readFile(begun, 'utf8').catch(() => '')).length,
    finish: async () => writeFile(go, ''),
  };
}

const REQUEST = { action: 'steered', action_parameters: { password: PLANTED, pepper: PLANTED } };
const fieldsIn = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
const eventsIn = (text: string) => fieldsIn(text).map(({ event, outcome }) => [event, outcome]);

function queueFor(t: ExecutionContext, broker: TestBroker): string {
  const queue = `audit_${randomUUID()}`;
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of [...queuesOf(queue), auditStreamOf(queue)]) await channel.deleteQueue(name);
    await connection.close();
  });
  return queue;
}

if (rabbit !== undefined) {
  /** A service in this process, whose connection for the stream can fail alone. */
  const serveWithStream = async (t: ExecutionContext, env: Record<string, string>) => {
    const queue = queueFor(t, rabbit);
    const logs = logLines();
    const streamLink = cuttable(rabbit);
    let isAway = false;
    const connect: Connect = async (url, options) => {
      const isStream = JSON.stringify(options).includes(' audit"');
      if (isStream && isAway) throw new Error('the broker is away');
      return isStream ? streamLink.connect(url, options) : rabbit.connect(url, options);
    };
    const change = await steeredChange(t);
    const service = await startService({
      configuration: serving({
        AMQP_URL: rabbit.url,
        QUEUE_NAME: queue,
        ...REACHES_NOTHING,
        HTTP_PORT: 'off',
        PLUGIN_PATHS: change.PLUGIN_PATHS,
        SHUTDOWN_GRACE_SECONDS: '1',
        AUDIT: 'stream',
        ...env,
      }),
      log: logs.log,
      broker: { brokers: async () => [{ url: rabbit.url }], connect },
    });
    await eventually('it is ready', () => service.notReady().length === 0);
    const caller = await RawCaller.open(t, rabbit, queue);
    const history = async (...args: string[]) =>
      runCli(t, ['history', ...args], { env: { AMQP_URL: rabbit.url, QUEUE_NAME: queue } });
    const setAway = (away: boolean) => {
      isAway = away;
      if (away) streamLink.cut();
    };
    return { service, queue, logs, caller, change, history, setAway };
  };

  test('the history has the changes of the service, without secrets, and nothing that others wrote', async (t) => {
    const { service, queue, caller, change, history } = await serveWithStream(t, {});
    await change.finish();
    const { answer } = await caller.ask(REQUEST, { userId: 'guest', messageId: 'm1' });
    t.is(answer.status, 'completed');
    const forged = { ...fieldsIn((await history()).stdout)[0], caller: 'forged' };
    const stream = auditStreamOf(queue);
    const connection = await rabbit.open();
    const channel = await connection.createConfirmChannel();
    channel.sendToQueue(stream, Buffer.from(JSON.stringify(forged)));
    channel.sendToQueue(stream, Buffer.from('not a line'), { userId: 'guest' });
    await channel.waitForConfirms();
    await connection.close();
    t.true(await service.stop());
    const { stdout, stderr, code } = await history();
    t.is(code, 0, stderr);
    t.deepEqual(eventsIn(stdout), [
      ['begun', undefined],
      ['settled', 'completed'],
    ]);
    t.like(fieldsIn(stdout)[0], {
      caller: 'guest',
      verified_by: 'broker',
      door: 'amqp',
      action: 'steered',
      parameters: { password: '***', pepper: '***' },
    });
    t.false(stdout.includes(PLANTED));
    t.regex(stderr, /^1 line left out that the service has not written/m);
    t.regex(stderr, /^1 line left out that cannot be read/m);
    for (const [args, events] of [
      [['--caller', 'guest', '--action', 'steered', '--since', '1h'], 2],
      [['--caller', 'forged'], 0],
      [['--action', 'other'], 0],
      [['--cluster', 'other'], 0],
      [['--since', '2999-01-01'], 0],
      [['--user', 'somebody'], 0],
    ] as const)
      t.is(fieldsIn((await history(...args)).stdout).length, events, args.join(' '));
  });

  test('the end of a change is in the stream also when the broker was away at its end', async (t) => {
    const { service, logs, caller, change, history, setAway } = await serveWithStream(t, {});
    const correlationId = caller.send(REQUEST);
    await eventually('it runs', async () => (await change.begun()) === 1);
    setAway(true);
    await change.finish();
    t.is((await caller.replyFor(correlationId)).answer.status, 'completed');
    await eventually('its line waits', () => logs.find(/^audit lines wait$/).length === 1);
    // Without AUDIT_REQUIRED a change begins all the same.
    t.is((await caller.ask(REQUEST)).answer.status, 'completed');
    setAway(false);
    await eventually('it is written', () => logs.find(/^audit lines written again$/).length === 1);
    t.true(await service.stop());
    t.deepEqual(eventsIn((await history()).stdout), [
      ['begun', undefined],
      ['settled', 'completed'],
      ['begun', undefined],
      ['settled', 'completed'],
    ]);
    t.deepEqual(logs.find(/^audit lines (?:unsent|dropped)$/), []);
  });

  test('with AUDIT_REQUIRED no change begins while the stream cannot be written, and its caller may retry', async (t) => {
    const { service, caller, change, history, setAway } = await serveWithStream(t, {
      AUDIT_REQUIRED: 'true',
    });
    await change.finish();
    t.is((await caller.ask(REQUEST)).answer.status, 'completed');
    setAway(true);
    const { answer } = await caller.ask(REQUEST);
    t.like(answer.response_body, { code: 'service_unavailable', details: { retry_after_ms: 1_000 } });
    t.regex(String(answer.response_body.errors), /not begun.*audited/);
    t.is(await change.begun(), 1);
    setAway(false);
    await eventually(
      'it begins again',
      async () => (await caller.ask(REQUEST)).answer.status === 'completed',
    );
    t.is(await change.begun(), 2);
    await service.stop();
    t.deepEqual(
      eventsIn((await history()).stdout).filter(([, outcome]) => outcome === 'completed').length,
      2,
    );
  });

  test('a shutdown under load says how many lines are unsent', async (t) => {
    const { service, logs, caller, change, setAway } = await serveWithStream(t, {});
    const sent = Array.from({ length: 5 }, () => caller.send(REQUEST));
    await eventually('all run', async () => (await change.begun()) === sent.length);
    setAway(true);
    const stopped = service.stop();
    await change.finish();
    await stopped;
    t.like(logs.find(/^audit lines unsent$/)[0], { level: 'error', lines: 5 });
  });

  test('on standard error the lines of the audit are between those of the log', async (t) => {
    const queue = queueFor(t, rabbit);
    const change = await steeredChange(t);
    await change.finish();
    const worker = await startWorker(t, {
      AMQP_URL: rabbit.url,
      QUEUE_NAME: queue,
      PLUGIN_PATHS: change.PLUGIN_PATHS,
      AUDIT: 'stderr',
      LOG_LEVEL: 'info',
    });
    const caller = await RawCaller.open(t, rabbit, queue);
    t.is((await caller.ask(REQUEST)).answer.status, 'completed');
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
    t.deepEqual(
      worker.lines.filter(({ event }) => event !== undefined).map(({ event, outcome }) => [event, outcome]),
      [
        ['begun', undefined],
        ['settled', 'completed'],
      ],
    );
  });

  test('a file has the first line of a change whose worker was killed, and what comes after SIGHUP is in a new file', async (t) => {
    const queue = queueFor(t, rabbit);
    const change = await steeredChange(t);
    const path = join(await folder(t), 'audit.jsonl');
    const env = {
      AMQP_URL: rabbit.url,
      QUEUE_NAME: queue,
      PLUGIN_PATHS: change.PLUGIN_PATHS,
      AUDIT: path,
      AUDIT_REQUIRED: 'true',
      HOSTNAME: 'worker1',
    };
    const worker = await startWorker(t, env);
    const caller = await RawCaller.open(t, rabbit, queue);
    caller.send(REQUEST);
    await eventually('it runs', async () => (await change.begun()) === 1);
    worker.process.kill('SIGKILL');
    await worker.ended;
    const [begun, ...more] = fieldsIn(await readFile(path, 'utf8'));
    t.like(begun, { event: 'begun', action: 'steered', worker: 'worker1', parameters: { password: '***' } });
    t.deepEqual(more, []);
    const { stdout } = await runCli(t, ['history'], { env: { AUDIT: path } });
    t.deepEqual(eventsIn(stdout), [['begun', undefined]]);

    const next = await startWorker(t, env);
    await change.finish();
    t.is((await caller.ask(REQUEST, { messageId: 'm2' })).answer.status, 'completed');
    const rotated = `${path}.1`;
    await rename(path, rotated);
    next.process.kill('SIGHUP');
    await eventually('the file is there again', async () => readFile(path).catch(() => undefined));
    t.is((await caller.ask(REQUEST, { messageId: 'm3' })).answer.status, 'completed');
    next.process.kill('SIGTERM');
    t.is(await next.ended, 0);
    t.deepEqual(eventsIn(await readFile(path, 'utf8')), [
      ['begun', undefined],
      ['settled', 'completed'],
    ]);
    t.deepEqual(eventsIn(await readFile(rotated, 'utf8')).slice(-2), [
      ['begun', undefined],
      ['settled', 'completed'],
    ]);
  });
}

test('a file that cannot be written stops the start, with the reason', async (t) => {
  const { code, stderr } = await runCli(t, ['serve'], {
    env: {
      AMQP_URL: 'amqp://127.0.0.1:1',
      AUDIT: '/nonexistent/audit.jsonl',
      HTTP_PORT: 'off',
      LOG_FORMAT: 'text',
    },
  });
  t.is(code, 2);
  t.regex(stderr, /AUDIT cannot be used: ENOENT/);
});

test('history needs a place to read from', async (t) => {
  const none = await runCli(t, ['history']);
  t.is(none.code, 2);
  t.regex(none.stderr, /AMQP_URL is not set/);
  const stderr = await runCli(t, ['history'], { env: { AUDIT: 'stderr' } });
  t.is(stderr.code, 2);
  const followed = await runCli(t, ['history', '--follow'], { env: { AUDIT: '/dev/null' } });
  t.regex(followed.stderr, /tail -F/);
  const since = await runCli(t, ['history', '--since', 'yesterday']);
  t.is(since.code, 2);
});
