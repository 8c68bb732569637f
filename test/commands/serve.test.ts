import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq } from '../support/brokers.js';
import { type RunningCli, startCli } from './cli-process.js';

const run = promisify(execFile);

interface Served {
  cli: RunningCli;
  url: string;
}

/** A service in the sandbox, on a free port, that takes requests. */
async function serveSandbox(t: ExecutionContext, env: Record<string, string> = {}): Promise<Served> {
  const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', ...env } });
  const [, url = ''] = await cli.printed(/^ {2}gateway +(http:\S+)$/m);
  await cli.printed(/taking requests/);
  return { cli, url };
}

/** An action that ends when a file is there, whatever its signal says. */
async function waiting(t: ExecutionContext): Promise<{ PLUGIN_PATHS: string; letGo: () => Promise<void> }> {
  const root = await mkdtemp(join(tmpdir(), 'waiting-'));
  t.teardown(() => rm(root, { recursive: true }));
  const gate = join(root, 'gate');
  await mkdir(join(root, 'plugins/wait'), { recursive: true });
  await writeFile(
    join(root, 'plugins/wait/index.js'),
    `
    import { existsSync } from 'node:fs';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { object, string } from 'yup';
    import { defineAction } from 'fleet-manager/plugin';
    export default defineAction({
      name: 'a_wait', summary: 'Waits.', target: 'none', effect: 'change',
      parameters: object({}), result: string().required(),
      async handle({ log }) {
        log.warn('waiting begins');
        while (!existsSync(${JSON.stringify(gate)})) await sleep(5);
        return 'done';
      },
    });`,
  );
  return { PLUGIN_PATHS: join(root, 'plugins'), letGo: async () => writeFile(gate, '') };
}

async function act(
  url: string,
  action: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${url}/v1/actions/${action}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: '{}',
  });
  return { status: response.status, body: await response.json() };
}

test('with nothing configured serve runs a sandbox, whose first call works as printed', async (t) => {
  const { cli, url } = await serveSandbox(t);
  const introduction = cli.stdout();
  t.regex(introduction, /^SANDBOX: nothing is configured, so this is a pretend cluster/m);
  t.regex(introduction, /Set AMQP_URL to serve real clusters/);
  t.regex(introduction, /^ {2}actions +.*list_machines, .*list_units/m);
  t.regex(introduction, /^ {2}cluster +etcd_token "sandbox", fleet API at http:\/\/127\.0\.0\.1:\d+$/m);
  t.regex(introduction, /^ {2}discovery +http:\/\/127\.0\.0\.1:\d+$/m);
  const [line = ''] = /^ {2}curl .*$/m.exec(introduction) ?? [];
  t.true(line.includes(url));
  const { stdout } = await run('sh', ['-c', line]);
  const answer = JSON.parse(stdout);
  t.is(answer.status, 'completed');
  t.is(answer.response_body.length, 3);
  t.like(answer.response_body[0], { primaryIP: '127.0.0.1', metadata: { region: 'eu-west' } });
  t.deepEqual(await (await fetch(`${url}/readyz`)).json(), { ready: true, reasons: [] });
  cli.kill('SIGTERM');
  const { code, stderr } = await cli.ended;
  t.is(code, 0, stderr);
  t.regex(stderr, /shut down clean=true/);
});

test('the first call works as printed with a token, and with a plugin whose name comes first', async (t) => {
  const HTTP_TOKEN = '0123456789 $"abcdef';
  const { PLUGIN_PATHS } = await waiting(t);
  const { cli, url } = await serveSandbox(t, { HTTP_TOKEN, PLUGIN_PATHS });
  t.false(cli.stdout().includes(HTTP_TOKEN));
  t.regex(cli.stdout(), /^ {2}actions +a_wait, /m);
  t.is((await fetch(`${url}/v1/actions`)).status, 401);
  const [line = ''] = /^ {2}curl .*$/m.exec(cli.stdout()) ?? [];
  const { stdout } = await run('sh', ['-c', line], { env: { ...process.env, HTTP_TOKEN } });
  t.is(JSON.parse(stdout).status, 'completed');
  cli.kill('SIGINT');
  t.is((await cli.ended).code, 0);
});

test('without a gateway serve says that nothing can call it', async (t) => {
  const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: 'off' } });
  await cli.printed(/No HTTP gateway \(HTTP_PORT=off\), so nothing can call it/);
  await cli.printed(/taking requests/);
  cli.kill('SIGTERM');
  t.is((await cli.ended).code, 0);
});

test('in production lines are JSON, and those of a request bear its id, action and cluster', async (t) => {
  const { cli, url } = await serveSandbox(t, { LOG_FORMAT: 'json' });
  await fetch(`${url}/v1/actions/list_machines`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"etcd_token":"sandbox"}',
  });
  await cli.printed(/request completed/);
  cli.kill('SIGTERM');
  const { stderr } = await cli.ended;
  const lines = stderr
    .trimEnd()
    .split('\n')
    .map((line): Record<string, unknown> => JSON.parse(line));
  const ofRequest = lines.filter(({ message }) => message === 'request completed');
  t.is(ofRequest.length, 1);
  t.like(ofRequest[0], { level: 'info', action: 'list_machines' });
  t.regex(String(ofRequest[0]?.cluster), /^[0-9a-f]{10}$/);
  t.true(typeof ofRequest[0]?.request === 'string' && typeof ofRequest[0]?.took_ms === 'number');
  t.false(stderr.includes('sandbox"'));
});

test('SIGTERM lets a running request end, and its caller gets the answer', async (t) => {
  const { PLUGIN_PATHS, letGo } = await waiting(t);
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS });
  const call = act(url, 'a_wait');
  await cli.printed(/waiting begins/);
  cli.kill('SIGTERM');
  await cli.printed(/shutting down/);
  await letGo();
  t.like(await call, { status: 200, body: { status: 'completed', response_body: 'done' } });
  const { code, stderr } = await cli.ended;
  t.is(code, 0, stderr);
});

test('a second signal ends the service at once', async (t) => {
  const { PLUGIN_PATHS } = await waiting(t);
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS, SHUTDOWN_GRACE_SECONDS: '3600' });
  const call = act(url, 'a_wait').catch(() => 'cut');
  await cli.printed(/waiting begins/);
  cli.kill('SIGTERM');
  await cli.printed(/shutting down/);
  cli.kill('SIGINT');
  t.is((await cli.ended).code, 130);
  t.is(await call, 'cut');
});

test('a port that is taken stops the start with a plain reason', async (t) => {
  const { url } = await serveSandbox(t);
  const HTTP_PORT = new URL(url).port;
  const { code, stderr } = await (await startCli(t, ['serve'], { env: { HTTP_PORT } })).ended;
  t.is(code, 1);
  t.regex(stderr, /^fleet-manager: 127\.0\.0\.1:\d+ is in use \(another .*: set HTTP_PORT to .*\n$/);
});

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('over RabbitMQ a broker that is not there is waited for, and told by its address alone', async (t) => {
    const AMQP_URL = 'amqp://user:Zq%40secret@127.0.0.1:1';
    const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', AMQP_URL } });
    await cli.printed(/fleet-manager runs/);
    const [, url = ''] = await cli.printed(/ http=(\S+)/);
    await cli.printed(/broker=amqp:\/\/127\.0\.0\.1:1/);
    t.is((await fetch(`${url}/livez`)).status, 200);
    const ready = await fetch(`${url}/readyz`);
    t.is(ready.status, 503);
    t.regex(JSON.stringify(await ready.json()), /no connection to a broker: .*ECONNREFUSED/);
    cli.kill('SIGTERM');
    const { code, stdout, stderr } = await cli.ended;
    t.is(code, 0, stderr);
    t.is(stdout, '');
    t.false(stderr.includes('Zq'));
  });

  test('over RabbitMQ serve answers from a real queue, and SIGTERM ends it with exit code 0', async (t) => {
    const sandbox = await startSandbox();
    t.teardown(() => sandbox.stop());
    const QUEUE_NAME = `test_${randomUUID()}`;
    const cli = await startCli(t, ['serve'], {
      env: {
        AMQP_URL: `amqp://127.0.0.1:1,${rabbit.url}`,
        QUEUE_NAME,
        ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
        FLEET_API_PORT: String(sandbox.fleetPort),
        ALLOWED_HOSTS: '127.0.0.0/8',
        HTTP_PORT: 'off',
      },
    });
    const client = new FleetManagerClient({ urls: [rabbit.url], queue: QUEUE_NAME });
    t.teardown(async () => {
      await client.close();
      const connection = await rabbit.open();
      const channel = await connection.createChannel();
      for (const queue of [QUEUE_NAME, `${QUEUE_NAME}_error`]) await channel.deleteQueue(queue);
      await connection.close();
    });
    await cli.printed(/taking requests/);
    const machines = await client.call('list_machines', { cluster: 'sandbox' });
    t.is((machines as unknown[]).length, 3);
    cli.kill('SIGTERM');
    t.is((await cli.ended).code, 0);
  });
}
