import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { type RunningCli, startCli } from './cli-process.js';
import { queuesOf, suspectsQueueOf } from '../../src/rpc/queues.js';

const run = promisify(execFile);

interface Served {
  cli: RunningCli;
  url: string;
}

/** Starts a service in the sandbox on a free port, and waits until it accepts requests. */
async function serveSandbox(t: ExecutionContext, env: Record<string, string> = {}): Promise<Served> {
  const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', ...env } });
  const [, printed, logged] = await cli.printed(/^ {2}gateway +(http:\S+)$|"http":"([^"]+)"/m);
  const url = printed ?? logged ?? '';
  await cli.printed(/accepting requests/);
  return { cli, url };
}

/** An action that ends when a file exists. It ignores its signal. */
async function waiting(t: ExecutionContext): Promise<{ PLUGIN_PATHS: string; finish: () => Promise<void> }> {
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
  return { PLUGIN_PATHS: join(root, 'plugins'), finish: async () => writeFile(gate, '') };
}

async function act(
  url: string,
  action: string,
  request: { etcd_token?: string; action_parameters?: object } = {},
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${url}/v1/actions/${action}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return { status: response.status, body: await response.json() };
}

test('with nothing configured serve runs a sandbox, and the printed first call works', async (t) => {
  const { cli, url } = await serveSandbox(t);
  const introduction = cli.stdout();
  t.regex(introduction, /^SANDBOX: no broker is configured, so these are simulated clusters/m);
  t.regex(introduction, /Set AMQP_URL to serve real clusters/);
  t.regex(introduction, /^ {2}actions +.*list_machines, .*list_units/m);
  t.regex(introduction, /^ {2}cluster +etcd_token "sandbox", fleet API at http:\/\/127\.0\.0\.1:\d+$/m);
  t.regex(
    introduction,
    /^ {2}systemd +etcd_token "sandbox-systemd": 127\.0\.0\.11, 127\.0\.0\.12, 127\.0\.0\.13, /m,
  );
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

test('the hosts of the sandbox, which have no fleet, are read and changed as real ones are', async (t) => {
  const { url } = await serveSandbox(t);
  const answer = async (action: string, action_parameters: object = {}): Promise<unknown> => {
    const { status, body } = await act(url, action, { etcd_token: 'sandbox-systemd', action_parameters });
    t.is(status, 200, `${action}: ${JSON.stringify(body)}`);
    return (body as { response_body: unknown }).response_body;
  };
  const listed = await act(url, 'list_clusters');
  t.deepEqual((listed.body as { response_body: unknown }).response_body, [
    { name: 'sandbox', kind: 'fleet', machines: null },
    { name: 'sandbox-systemd', kind: 'systemd', machines: 3 },
  ]);
  t.is(((await answer('list_machines')) as object[]).length, 3);
  const unit_name = 'tickets.service';
  t.like(await answer('list_units', { name: 'tickets*' }), [{ name: unit_name, currentState: 'launched' }]);
  t.is(((await answer('list_unit_states', { unit_name })) as object[]).length, 2);
  t.is(String(await answer('unit_logs', { unit_name, lines: 3 })).match(/^\w{3} \d\d .*$/gm)?.length, 6);
  t.like(await answer('node_info', { nodes: ['127.0.0.11'] }), { '127.0.0.11': { os: { id: 'debian' } } });
  t.like(await answer('unit_status', { unit_name: 'mailer@1.service', lines: 1 }), {
    desired_state: 'launched',
    machines: { 0: { host: '127.0.0.13', active: 'active', restarts: 0, enabled: 'enabled', error: null } },
  });
  const did = async (action: string, unit: string) => {
    const { changes } = (await answer(action, { unit_name: unit })) as { changes: { did: string }[] };
    return changes.map((change) => change.did).join();
  };
  t.deepEqual(
    await Promise.all([
      did('reload_unit', unit_name),
      did('start_unit', 'seat-map.service'),
      did('stop_unit', 'mailer@bulk.service'),
      did('disable_unit', 'mailer@2.service'),
      did('enable_unit', 'mailer@bulk2.service'),
      did('reset_failed_unit', 'payments-import.service'),
    ]),
    ['reloaded,reloaded', 'started', 'stopped', 'disabled', 'enabled', 'reset'],
  );
  t.regex(String(await answer('restart_unit', { unit_name })), /^tickets\.service was restarted on machine/);
  t.like(await answer('unit_file', { unit_name }), { unit: unit_name, files: [{ is_current: true }] });
  t.like(await answer('list_unit_files', { name: 'mailer@.*' }), [{ state: 'enabled' }]);
  t.like(await answer('rollout', { operation: 'restart', units: 'tickets*' }), {
    ended: 'completed',
    targets: [{ status: 'done' }, { status: 'done' }],
  });
  const machine_ids = ((await answer('list_machines')) as { id: string }[]).map(({ id }) => id);
  const text = '[Service]\nExecStart=/opt/new\n';
  const put = await answer('put_unit', { unit_name: 'new.service', text, machine_ids, activate: 'start' });
  t.like(put, { changes: { 2: { did: 'created', after: { active: 'active' } } } });
  t.is(((await answer('list_unit_states', { unit_name: 'new.service' })) as object[]).length, 3);
  await answer('destroy_unit', { unit_name: 'new.service', confirm: 'new.service' });
  t.deepEqual(await answer('list_units', { name: 'new.service' }), []);
  const failed = await act(url, 'restart_unit', {
    etcd_token: 'sandbox-systemd',
    action_parameters: { unit_name: 'payments-import.service' },
  });
  t.like(failed.body, { response_body: { code: 'unit_failed' } });
});

test('every action works in the sandbox, also over SSH', async (t) => {
  const { url } = await serveSandbox(t);
  const answer = async (action: string, action_parameters: object = {}): Promise<unknown> => {
    const { status, body } = await act(url, action, { etcd_token: 'sandbox', action_parameters });
    t.is(status, 200, `${action}: ${JSON.stringify(body)}`);
    return (body as { response_body: unknown }).response_body;
  };
  const [machine] = (await answer('list_machines')) as { id: string; primaryIP: string }[];
  t.is(machine?.primaryIP, '127.0.0.1');
  const unit_name = 'web@1.service';
  t.like(await answer('list_units', { name: unit_name }), [{ name: unit_name, desiredState: 'launched' }]);
  t.like(await answer('list_unit_states', { unit_name }), [
    { name: unit_name, systemdActiveState: 'active' },
  ]);
  t.is(String(await answer('unit_logs', { unit_name, lines: 3 })).match(/^\w{3} \d\d .*$/gm)?.length, 3);
  t.like(await answer('node_info', { nodes: ['127.0.0.1'] }), {
    '127.0.0.1': { docker_disk_space_percent: 47, os: { id: 'coreos' }, errors: [] },
  });
  const findings = (await answer('check_cluster')) as { kind: string; subject: string }[];
  t.deepEqual(
    findings
      // It waits for its restart half of the time.
      .filter(({ subject }) => subject !== 'search-indexer.service')
      .map(({ kind, subject }) => `${kind} ${subject}`),
    ['unit_unsatisfiable recommender.service', 'unit_failed mailer.service', 'disk_nearly_full 127.0.0.3'],
  );
  const described = await act(url, 'describe_actions', {
    action_parameters: { name: 'list_*', brief: true },
  });
  t.is((described.body as { response_body: object[] }).response_body.length, 5);
  const changed = await Promise.all([
    answer('restart_unit', { unit_name }).then(String),
    answer('stop_unit', { unit_name: 'web@2.service' }).then((changes) => JSON.stringify(changes)),
    answer('start_unit', { unit_name: 'legacy-ftp.service' }).then((changes) => JSON.stringify(changes)),
    answer('unload_unit', { unit_name: 'web@3.service' }).then((changes) => JSON.stringify(changes)),
    answer('load_unit', { unit_name: 'sitemap.service' }).then((changes) => JSON.stringify(changes)),
  ]);
  for (const [index, did] of [/was restarted/, /"stopped"/, /"started"/, /"unloaded"/, /"nothing"/].entries())
    t.regex(changed[index] ?? '', did);
  const { actions } = (await (await fetch(`${url}/v1/actions`)).json()) as { actions: { name: string }[] };
  t.deepEqual(
    actions.map(({ name }) => name),
    [
      'check_cluster',
      'describe_actions',
      'destroy_unit',
      'disable_unit',
      'enable_unit',
      'list_clusters',
      'list_machines',
      'list_unit_files',
      'list_unit_states',
      'list_units',
      'load_unit',
      'node_info',
      'put_unit',
      'reload_unit',
      'reset_failed_unit',
      'restart_unit',
      'rollout',
      'start_unit',
      'stop_unit',
      'unit_file',
      'unit_logs',
      'unit_status',
      'unload_unit',
    ],
    'one is called neither here nor on the hosts',
  );
});

test('the printed first call works with a token, and with a plugin whose name sorts first', async (t) => {
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

test('with LOG_FORMAT=json lines are JSON, and those of a request contain its id, action and cluster', async (t) => {
  const { cli, url } = await serveSandbox(t, { LOG_FORMAT: 'json' });
  await fetch(`${url}/v1/actions/list_machines`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"etcd_token":"sandbox"}',
  });
  await cli.printed(/request completed/);
  cli.kill('SIGTERM');
  const { stdout, stderr } = await cli.ended;
  t.is(stdout, '');
  const lines = jsonLines(stderr);
  const ofRequest = lines.filter(({ message }) => message === 'request completed');
  t.is(ofRequest.length, 1);
  t.like(ofRequest[0], { level: 'info', action: 'list_machines' });
  t.regex(String(ofRequest[0]?.cluster), /^[0-9a-f]{10}$/);
  t.true(typeof ofRequest[0]?.request === 'string' && typeof ofRequest[0]?.took_ms === 'number');
  const [{ first_call } = {}] = lines.filter(({ message }) => message === 'sandbox started');
  t.regex(String(first_call), /^curl -s http:\/\/127\.0\.0\.1:\d+\/v1\/actions\/list_machines /);
});

/** @throws when a line is not a JSON object */
function jsonLines(output: string): Record<string, unknown>[] {
  return output
    .trimEnd()
    .split('\n')
    .map((line): Record<string, unknown> => ({ ...JSON.parse(line) }));
}

const NOISY = `
  console.log('a line\\nand another');
  console.error('to stderr');
  process.stdout.write('\\u001b[2Jraw');
  process.stderr.write(Buffer.from('bytes\\n'));
  process.emitWarning('it is old', 'DeprecationWarning', 'DEP1234');
  setTimeout(() => { throw new Error('thrown by a timer'); });
  await new Promise((done) => setTimeout(done, 50));
  return 'done';`;

test('with LOG_FORMAT=json all that a plugin, a warning or an uncaught error writes are lines of JSON', async (t) => {
  const PLUGIN_PATHS = await plugin(t, NOISY, "...console.log('while loading'),");
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS, LOG_FORMAT: 'json' });
  t.is((await act(url, 'a_plugin')).status, 200);
  const { code, stdout, stderr } = await cli.ended;
  t.is(code, 1);
  t.is(stdout, '');
  const lines = jsonLines(stderr);
  t.deepEqual(
    lines.filter(({ message }) => message === 'output written').map(({ stream, text }) => [stream, text]),
    [
      ['stdout', 'while loading'],
      ['stdout', 'a line\nand another'],
      ['stderr', 'to stderr'],
      ['stdout', '\u001b[2Jraw'],
      ['stderr', 'bytes'],
    ],
  );
  const [warned] = lines.filter(({ message }) => message === 'Node.js warning');
  t.like(warned, { level: 'warn' });
  t.regex(String(warned?.warning), /it is old/);
  t.true(lines.some(({ message }) => message === 'uncaught exception'));
});

test('with LOG_FORMAT=json the reason why the service cannot start is a line of JSON, whatever it is', async (t) => {
  const failing = await plugin(t, "return '';", "...(() => { throw new Error('no licence'); })(),");
  for (const [args, env, code, reason] of [
    [[], { PREFETCH: 'many' }, 2, /PREFETCH must be a whole number/],
    [[], { PREFETCH: 'many', LOG_LEVEL: 'loud' }, 2, /LOG_LEVEL must be/],
    [[], { ACTIONS: 'none_such' }, 2, /ACTIONS names 'none_such'/],
    [[], { PLUGIN_PATHS: failing }, 1, /no licence/],
    [
      [],
      { HTTP_HOST: '203.0.113.1', HTTP_TOKEN: 'x'.repeat(16) },
      1,
      /HTTP_HOST and HTTP_PORT cannot be used/,
    ],
    [['--bogus'], {}, 2, /unknown option '--bogus'/],
  ] as const) {
    const cli = await startCli(t, ['serve', ...args], {
      env: { HTTP_PORT: '0', LOG_FORMAT: ' json\r', ...env },
    });
    const ended = await cli.ended;
    t.is(ended.code, code, ended.stderr);
    t.is(ended.stdout, '');
    const lines = jsonLines(ended.stderr);
    t.like(lines.at(-1), { level: 'error', message: 'service start failed' });
    t.regex(String(lines.at(-1)?.reason), reason);
  }
});

test('actions that READ_ONLY leaves out, though ACTIONS names them, stop the start', async (t) => {
  for (const [ACTIONS, reason] of [
    ['restart_unit', /ACTIONS names restart_unit, which READ_ONLY=true does not serve, so that nothing/],
    ['restart_unit,list_units', /ACTIONS names restart_unit, which READ_ONLY=true does not serve: remove/],
  ] as const) {
    const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', READ_ONLY: 'true', ACTIONS } });
    const { code, stderr } = await cli.ended;
    t.is(code, 2);
    t.regex(stderr, reason);
    t.notRegex(stderr, /^ +at /m);
  }
});

test('after SIGTERM a running request ends, and its caller gets the reply', async (t) => {
  const { PLUGIN_PATHS, finish } = await waiting(t);
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS });
  const call = act(url, 'a_wait');
  await cli.printed(/waiting begins/);
  cli.kill('SIGTERM');
  await cli.printed(/shutting down/);
  await finish();
  t.like(await call, { status: 200, body: { status: 'completed', response_body: 'done' } });
  const { code, stderr } = await cli.ended;
  t.is(code, 0, stderr);
});

test('a quarter of the memory budget is for the calls of the gateway', async (t) => {
  const { PLUGIN_PATHS, finish } = await waiting(t);
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS, MEMORY_BUDGET_BYTES: String(40 * 1024 * 1024) });
  const wait = async () => {
    const headers = { 'content-type': 'application/json' };
    // It counts with 5.4 MB when it arrives, and with 3.6 MB afterwards.
    const body = `{${' '.repeat(900_000)}}`;
    return (await fetch(`${url}/v1/actions/a_wait`, { method: 'POST', headers, body })).status;
  };
  const first = wait();
  await cli.printed(/waiting begins/);
  const second = wait();
  await cli.printed(/waiting begins[\s\S]*waiting begins/);
  t.is(await wait(), 503);
  await cli.printed(/gateway memory used up/);
  await finish();
  t.deepEqual(await Promise.all([first, second]), [200, 200]);
});

test('SIGUSR1 opens no debugger, and SIGHUP stops the service as SIGTERM does', async (t) => {
  const { cli, url } = await serveSandbox(t, { LOG_FORMAT: 'json' });
  cli.kill('SIGUSR1');
  t.is((await fetch(`${url}/livez`)).status, 200);
  cli.kill('SIGHUP');
  const { code, stderr } = await cli.ended;
  t.is(code, 0);
  t.true(jsonLines(stderr).some(({ message }) => message === 'shut down'));
});

test('a second signal ends the service immediately', async (t) => {
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

test('the SSH keys of the sandbox are deleted however the service ends', async (t) => {
  const { PLUGIN_PATHS } = await waiting(t);
  const folder = await mkdtemp(join(tmpdir(), 'serve-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const left = async () => (await readdir(folder)).filter((name) => name.startsWith('fleet-manager-'));
  const env = { TMPDIR: folder, PLUGIN_PATHS, SHUTDOWN_GRACE_SECONDS: '3600' };

  const stopped = await serveSandbox(t, env);
  t.is((await left()).length, 1);
  stopped.cli.kill('SIGTERM');
  t.is((await stopped.cli.ended).code, 0);
  t.deepEqual(await left(), []);

  const cut = await serveSandbox(t, env);
  void act(cut.url, 'a_wait').catch(() => undefined);
  await cut.cli.printed(/waiting begins/);
  cut.cli.kill('SIGTERM');
  await cut.cli.printed(/shutting down/);
  t.is((await left()).length, 1);
  cut.cli.kill('SIGTERM');
  t.is((await cut.cli.ended).code, 143);
  t.deepEqual(await left(), []);

  const starting = await startCli(t, ['serve'], { env: { ...env, HTTP_PORT: '0' } });
  await eventually('it has made its keys', async () => (await left()).length > 0);
  starting.kill('SIGTERM');
  await starting.ended;
  t.deepEqual(await left(), []);
});

/** A plugin whose action has this body. `more` is added to its definition. */
async function plugin(t: ExecutionContext, handle: string, more = ''): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'plugin-'));
  t.teardown(() => rm(root, { recursive: true }));
  await mkdir(join(root, 'act'));
  await writeFile(
    join(root, 'act/index.js'),
    `
    import { object, string } from 'yup';
    import { defineAction } from 'fleet-manager/plugin';
    export default defineAction({
      name: 'a_plugin', summary: 'Misbehaves.', target: 'none', effect: 'read',
      parameters: object({}), result: string().required(),
      async handle() { ${handle} },
      ${more}
    });`,
  );
  return root;
}

test('an unhandled rejection of an action does not stop the service', async (t) => {
  const PLUGIN_PATHS = await plugin(t, "Promise.reject(new Error('not awaited')); return 'done';");
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS });
  for (const time of [1, 2]) t.is((await act(url, 'a_plugin')).status, 200, String(time));
  await cli.printed(/unhandled rejection.*not awaited/);
  cli.kill('SIGTERM');
  t.is((await cli.ended).code, 0);
});

test('an unhandled rejection while a plugin is loaded does not stop the service', async (t) => {
  const PLUGIN_PATHS = await plugin(t, "return 'done';", "...Promise.reject(new Error('while loading')),");
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS });
  t.is((await act(url, 'a_plugin')).status, 200);
  await cli.printed(/unhandled rejection.*while loading/);
});

test('an uncaught exception stops the service after it has replied to its requests', async (t) => {
  const PLUGIN_PATHS = await plugin(
    t,
    "setTimeout(() => { throw new Error('thrown by a timer'); }); await new Promise((done) => setTimeout(done, 50)); return 'done';",
  );
  const { cli, url } = await serveSandbox(t, { PLUGIN_PATHS });
  t.is((await act(url, 'a_plugin')).status, 200);
  const { code, stderr } = await cli.ended;
  t.is(code, 1);
  t.regex(stderr, /uncaught exception.*thrown by a timer/);
  t.regex(stderr, /shut down clean=true/);
});

test('resources that an action leaves open do not keep the service running', async (t) => {
  const PLUGIN_PATHS = await plugin(t, "return 'done';", 'dispose() { setInterval(() => {}, 1_000); }');
  const { cli } = await serveSandbox(t, { PLUGIN_PATHS });
  cli.kill('SIGTERM');
  t.is((await cli.ended).code, 0);
});

test('a port that is in use stops the start with a clear reason', async (t) => {
  const { url } = await serveSandbox(t);
  const HTTP_PORT = new URL(url).port;
  const { code, stderr } = await (await startCli(t, ['serve'], { env: { HTTP_PORT } })).ended;
  t.is(code, 1);
  t.regex(stderr, /^fleet-manager: 127\.0\.0\.1:\d+ is in use \(another .*: set HTTP_PORT to .*\n$/);
});

async function removeQueues(broker: TestBroker, name: string): Promise<void> {
  const connection = await broker.open();
  const channel = await connection.createChannel();
  for (const queue of queuesOf(name)) await channel.deleteQueue(queue);
  await connection.close();
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('over RabbitMQ serve waits for a broker that is down, and logs its address without credentials', async (t) => {
    const AMQP_URL = 'amqp://user:Zq%40secret@127.0.0.1:1';
    const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', AMQP_URL } });
    await cli.printed(
      /service started version=\d+\.\d+\.\d+ node=v\d+.* configuration="environment variables"/,
    );
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

  test('over RabbitMQ, with SANDBOX_CLUSTER, the actions see the machines of a simulated cluster', async (t) => {
    const QUEUE_NAME = `test_${randomUUID()}`;
    t.teardown(async () => removeQueues(rabbit, QUEUE_NAME));
    const env = { AMQP_URL: rabbit.url, QUEUE_NAME, HTTP_PORT: '0', SANDBOX_CLUSTER: 'true' };
    const cli = await startCli(t, ['serve'], { env: { ...env, NODE_ENV: 'production' } });
    const [, url = ''] = await cli.printed(/"http":"([^"]+)"/);
    await cli.printed(/"accepting requests"/);
    t.regex(cli.stderr(), /"sandbox cluster started"/);
    const nodes = await act(url, 'node_info', { etcd_token: 'sandbox' });
    t.is(nodes.status, 200, JSON.stringify(nodes.body));
    t.is((await act(url, 'list_units', { etcd_token: 'another' })).status, 404);
    // A request that is delivered again runs in a handler process, which must find the cluster too.
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    const reply = new Promise<string>((resolve, reject) => {
      channel
        .consume(queue, (message) => resolve(message?.content.toString() ?? ''), { noAck: true })
        .catch(reject);
    });
    const request = {
      status: 'not_started',
      request_body: {
        action: 'unit_logs',
        etcd_token: 'sandbox',
        action_parameters: { unit_name: 'web@1.service' },
      },
    };
    channel.sendToQueue(suspectsQueueOf(QUEUE_NAME), Buffer.from(JSON.stringify(request)), {
      replyTo: queue,
      messageId: randomUUID(),
    });
    t.is(JSON.parse(await reply).status, 'completed');
    cli.kill('SIGTERM');
    const { code, stderr } = await cli.ended;
    t.is(code, 0, stderr);
  });

  test('over RabbitMQ, after SIGTERM, callers of the gateway get their replies, and new calls are refused', async (t) => {
    const { PLUGIN_PATHS, finish } = await waiting(t);
    const QUEUE_NAME = `test_${randomUUID()}`;
    t.teardown(async () => removeQueues(rabbit, QUEUE_NAME));
    const env = { AMQP_URL: rabbit.url, QUEUE_NAME, HTTP_PORT: '0', PLUGIN_PATHS };
    const cli = await startCli(t, ['serve'], { env });
    const [, url = ''] = await cli.printed(/ http=(\S+)/);
    await cli.printed(/accepting requests/);
    const calls = [act(url, 'a_wait'), act(url, 'a_wait')];
    await cli.printed(/waiting begins[\s\S]*waiting begins/);
    cli.kill('SIGTERM');
    await cli.printed(/shutting down/);
    t.like(await act(url, 'a_wait'), {
      status: 503,
      body: { response_body: { code: 'service_unavailable' } },
    });
    await finish();
    for (const call of calls)
      t.like(await call, { status: 200, body: { status: 'completed', response_body: 'done' } });
    t.is((await cli.ended).code, 0);
  });

  test('over RabbitMQ serve replies to requests of a queue, and SIGTERM ends it with exit code 0', async (t) => {
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
      await removeQueues(rabbit, QUEUE_NAME);
    });
    await cli.printed(/accepting requests/);
    const machines = await client.call('list_machines', { cluster: 'sandbox' });
    t.is((machines as unknown[]).length, 3);
    cli.kill('SIGTERM');
    t.is((await cli.ended).code, 0);
  });
}
