import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { queuesOf } from '../../src/rpc/queues.js';
import test, { type ExecutionContext } from 'ava';
import { parse } from 'yaml';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq } from '../support/brokers.js';
import { type Ended, runCli, startCli } from './cli-process.js';

/** Returns its parameters, or fails with the code in `fail`. */
const ECHO = `
import { array, boolean, number, object, string } from 'yup';
import { ActionError, defineAction, stringMap } from 'fleet-manager/plugin';
const a = { description: 'A field.' };
export default defineAction({
  name: 'echo', summary: 'Returns its parameters.', target: 'optional', effect: 'read',
  parameters: object({
    text: string().meta(a), n: number().meta(a), flag: boolean().meta(a), nodes: array(string()).meta(a),
    map: stringMap().meta(a), times: number().default(2).meta(a), fail: string().meta(a), wait: boolean().meta(a),
    large: boolean().meta(a), cluster: boolean().meta(a),
  }),
  result: stringMap(),
  async handle({ parameters: { fail, wait, large, cluster: tell, ...rest }, cluster, signal }) {
    if (fail === 'defect') throw new TypeError('a defect');
    if (fail) throw new ActionError(fail, 'It failed as requested.', { details: { unit: 'web.service' } });
    if (tell) return { ...rest, cluster: String(cluster ?? 'none') };
    if (large) return { integer: 2n ** 64n };
    if (wait) await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    return rest;
  },
});`;

interface Way {
  name: string;
  /** The environment in which `call` finds the service. */
  env: Record<string, string>;
}

/** Starts a service with the action above. It is stopped at the teardown of `t`. */
async function startService(
  t: Pick<ExecutionContext, 'teardown'>,
  env: Record<string, string>,
): Promise<{ url: string; PLUGIN_PATHS: string }> {
  const PLUGIN_PATHS = await mkdtemp(join(tmpdir(), 'echo-'));
  t.teardown(() => rm(PLUGIN_PATHS, { recursive: true }));
  await mkdir(join(PLUGIN_PATHS, 'echo'));
  await writeFile(join(PLUGIN_PATHS, 'echo/index.js'), ECHO);
  const cli = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', PLUGIN_PATHS, ...env } });
  await cli.printed(/accepting requests/);
  const [, url = ''] = await cli.printed(/ http=(\S+)/);
  return { url, PLUGIN_PATHS };
}

const TOKEN = '0123456789abcdef';
const teardowns: (() => unknown)[] = [];
const all: Pick<ExecutionContext, 'teardown'> = { teardown: (work) => void teardowns.unshift(work) };
test.after.always(async () => {
  for (const work of teardowns) await work();
});

async function overGateway(): Promise<Way['env']> {
  const { url } = await startService(all, { HTTP_TOKEN: TOKEN });
  return { HTTP_PORT: new URL(url).port, HTTP_TOKEN: TOKEN };
}

const rabbit = rabbitmq();

async function overRabbitmq(rabbitUrl: string): Promise<Way['env']> {
  const sandbox = await startSandbox();
  all.teardown(() => sandbox.stop());
  const env = { AMQP_URL: rabbitUrl, QUEUE_NAME: `test_${randomUUID()}` };
  all.teardown(async () => {
    const connection = await rabbit?.open();
    const channel = await connection?.createChannel();
    for (const queue of queuesOf(env.QUEUE_NAME)) await channel?.deleteQueue(queue);
    await connection?.close();
  });
  const { PLUGIN_PATHS } = await startService(all, {
    ...env,
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
  });
  return { ...env, PLUGIN_PATHS };
}

const ways: Way[] = [];
test.before(async () => {
  const gateway = overGateway().then((env) => ({ name: 'over the gateway', env }));
  const amqp = rabbit && overRabbitmq(rabbit.url).then((env) => ({ name: 'over RabbitMQ', env }));
  ways.push(await gateway, ...(amqp === undefined ? [] : [await amqp]));
});

/** Registers a test that runs over each route. */
function everyWay(
  title: string,
  work: (t: ExecutionContext, call: (...args: string[]) => Promise<Ended>) => Promise<void>,
): void {
  for (const index of rabbit === undefined ? [0] : [0, 1]) {
    test(`${['over the gateway', 'over RabbitMQ'][index]}: ${title}`, async (t) => {
      const env = ways[index]?.env ?? {};
      await work(t, (...args) => runCli(t, ['call', ...args], { env }));
    });
  }
}

everyWay('the reply is printed as JSON', async (t, caller) => {
  const { code, stdout, stderr } = await caller('list_machines', '--cluster', 'sandbox');
  t.is(code, 0, stderr);
  t.is(stderr, '');
  const machines = JSON.parse(stdout);
  t.is(machines.length, 3);
  t.is(stdout, `${JSON.stringify(machines, null, 2)}\n`);
});

test('the reply is printed in another format, or as a table', async (t) => {
  const args = ['list_machines', '--cluster', 'sandbox'];
  const [json, ndjson, yaml, table] = await Promise.all([
    call(t, ...args, '-o', 'json'),
    call(t, ...args, '--output', 'ndjson'),
    call(t, ...args, '-o', 'yaml'),
    call(t, ...args, '--columns', 'ip,metadata.role', '--no-headers'),
  ]);
  const machines = JSON.parse(json.stdout);
  t.deepEqual(
    ndjson.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
    machines,
  );
  t.deepEqual(parse(yaml.stdout), machines);
  t.is(table.stdout, '127.0.0.1  web\n127.0.0.2  worker\n127.0.0.3  data\n');
});

test('options that contradict each other, and columns that there are not, are refused before anything is sent', async (t) => {
  for (const [options, reason] of [
    [['-o', 'json', '--columns', 'ip'], /--columns is for a table: leave it or --output json out/],
    [['--no-headers', '-o', 'yaml'], /--no-headers is for a table/],
    [['--raw', '-o', 'json'], /--raw prints a string as it is: leave it or --output out/],
    [['--columns', 'ip,'], /it must be names, separated by commas/],
    [['--columns', 'nmae'], /there is no column 'nmae'; there are MACHINE, IP, METADATA/],
    [['-o', 'xml'], /Allowed choices are table, json, ndjson, yaml/],
  ] as const) {
    const { code, stdout, stderr } = await call(t, 'list_machines', ...options);
    t.is(code, 2);
    t.regex(stderr, reason);
    t.is(stdout, '');
  }
});

test('an error has its body on standard output in a format for programs only', async (t) => {
  const failing = ['echo', '--param', 'fail=unit_not_found'];
  const [yaml, table] = await Promise.all([
    call(t, ...failing, '-o', 'yaml'),
    call(t, ...failing, '-o', 'table'),
  ]);
  t.is(parse(yaml.stdout).code, 'unit_not_found');
  t.is(yaml.stderr, 'unit_not_found: It failed as requested.\n');
  t.is(table.stdout, '');
  t.is(table.stderr, 'unit_not_found: It failed as requested.\n  UNIT  web.service\n');
  t.deepEqual([yaml.code, table.code], [2, 2]);
});

everyWay('parameters are parsed by the types of their fields', async (t, caller) => {
  const texts = [
    '--param',
    'text=3',
    '--param',
    'n=3',
    '--param',
    'flag=true',
    '--param',
    'nodes=a,b',
    '--param',
    'nodes=c',
  ];
  const { code, stdout, stderr } = await caller(
    'echo',
    '--params',
    '{"map": {"region": "eu"}, "n": 1}',
    ...texts,
  );
  t.is(code, 0, stderr);
  t.deepEqual(JSON.parse(stdout), {
    text: '3',
    n: 3,
    flag: true,
    nodes: ['a', 'b', 'c'],
    map: { region: 'eu' },
    times: 2,
  });
});

everyWay('a whole number is printed with every digit', async (t, caller) => {
  const { code, stdout, stderr } = await caller('echo', '--param', 'large=true');
  t.is(code, 0, stderr);
  t.is(stdout, '{\n  "integer": 18446744073709551616\n}\n');
});

everyWay(
  'the exit code is 2 for an error of the caller, 1 for an error of the service',
  async (t, caller) => {
    const wrong = await caller('list_units', '--cluster', 'sandbox', '--param', 'name=not a name');
    t.is(wrong.code, 2);
    t.regex(wrong.stderr, /^invalid_parameters: name is not a unit name or a pattern, such as [^\n]*\n$/);
    const missing = await caller('unit_logs', '--cluster', 'sandbox');
    t.regex(missing.stderr, /^invalid_parameters: .*\n-> .*--param NAME=VALUE/);
    t.like(JSON.parse(wrong.stdout), {
      code: 'invalid_parameters',
      details: { fields: [{ field: 'action_parameters.name' }] },
    });
    const late = await caller('echo', '--param', 'wait=true', '--timeout', '0.2');
    t.is(late.code, 1);
    t.regex(late.stderr, /^timeout: Request has timed out during execution!/);
  },
);

/** Runs a call over the gateway. */
async function call(t: ExecutionContext, ...args: string[]): Promise<Ended> {
  return runCli(t, ['call', ...args], { env: ways[0]?.env ?? {} });
}

for (const [fail, code, shown] of [
  ['unit_not_found', 2, 'unit_not_found: It failed as requested.\n'],
  ['disk_full', 1, 'disk_full: It failed as requested.\n'],
  ['defect', 1, "internal: An unexpected failure; the service's log has the reason under the request id "],
] as const) {
  test(`an action that fails with ${fail} ends with exit code ${code}`, async (t) => {
    const ended = await call(t, 'echo', '--param', `fail=${fail}`);
    t.is(ended.code, code);
    t.true(ended.stderr.startsWith(shown), ended.stderr);
    t.true(shown.startsWith(JSON.parse(ended.stdout).code));
    t.notRegex(ended.stderr, /^ +at /m);
  });
}

test('--raw prints a reply that is a string unchanged', async (t) => {
  const args = ['unit_logs', '--cluster', 'sandbox', '--param', 'unit_name=web@1.service'];
  const [json, raw] = await Promise.all([call(t, ...args), call(t, ...args, '--raw')]);
  t.is(raw.code, 0, raw.stderr);
  t.regex(raw.stdout, /^\w{3} \d\d .*\n.* core-\w+ docker/);
  t.is(JSON.parse(json.stdout).split('\n').length, raw.stdout.split('\n').length);
});

test('an unknown cluster is an error of the caller', async (t) => {
  const unknown = await call(t, 'list_machines', '--cluster', 'nosuchtoken');
  t.is(unknown.code, 2);
  t.regex(unknown.stderr, /^cluster_not_found: /);
});

test('without --cluster, FLEET_MANAGER_CLUSTER names the cluster, and in a sandbox its own one is used', async (t) => {
  const named = async (action: string, FLEET_MANAGER_CLUSTER: string, ...args: string[]) =>
    runCli(t, ['call', action, ...args], { env: { ...ways[0]?.env, FLEET_MANAGER_CLUSTER } });
  const [standard, variable, option, optional] = await Promise.all([
    named('list_machines', ''),
    named('list_machines', 'nosuchtoken'),
    named('list_machines', 'nosuchtoken', '--cluster', 'sandbox'),
    // It runs without a cluster, too: nobody has named one.
    named('echo', '', '--param', 'cluster=true'),
  ]);
  t.is(JSON.parse(standard.stdout).length, 3);
  t.is(JSON.parse(variable.stdout).code, 'cluster_not_found');
  t.is(JSON.parse(option.stdout).length, 3);
  t.deepEqual(JSON.parse(optional.stdout), { cluster: 'none', times: 2 });
  const used = await named('echo', 'sandbox', '--param', 'cluster=true');
  t.regex(JSON.parse(used.stdout).cluster, /^[0-9a-f]{10,}$/);
});

if (rabbit !== undefined)
  test('over RabbitMQ a cluster that is not named is missing', async (t) => {
    const missing = await runCli(t, ['call', 'list_machines'], { env: ways[1]?.env ?? {} });
    t.is(missing.code, 2);
    t.regex(
      missing.stderr,
      /^invalid_request: request_body\.etcd_token is missing: list_machines runs against.*\n-> .*FLEET_MANAGER_CLUSTER.*--cluster TOKEN\n$/,
    );
  });

test('unknown names and invalid values are reported before anything is sent', async (t) => {
  const [action, parameter, form] = await Promise.all([
    call(t, 'list_unit', '--cluster', 'sandbox'),
    call(t, 'list_units', '--cluster', 'sandbox', '--param', 'nmae=web'),
    call(t, 'echo', '--param', 'flag=yes'),
  ]);
  t.deepEqual([action.code, parameter.code, form.code], [2, 2, 2]);
  t.regex(action.stderr, /^fleet-manager: unknown action 'list_unit'; the actions are .*list_units/);
  t.regex(parameter.stderr, /^fleet-manager: list_units has no parameter 'nmae'; its parameters: name, /);
  t.regex(form.stderr, /^fleet-manager: --param flag: 'yes' is neither true nor false/);
});

test('an idempotency key is sent with the call', async (t) => {
  const args = ['restart_unit', '--cluster', 'sandbox', '--param', 'unit_name=web@1.service'];
  const [without, wrong] = await Promise.all([
    call(t, ...args, '--idempotency-key', 'deploy 42'),
    call(t, ...args, '--idempotency-key', 'clé'),
  ]);
  // A sandbox has no claim store.
  t.regex(without.stderr, /^idempotency_unavailable: Nothing was done: restart_unit is a change/);
  t.is(without.code, 1);
  t.regex(wrong.stderr, /1 to 128 printable ASCII characters/);
  t.is(wrong.code, 2);
});

test('a gateway with another token reports it', async (t) => {
  const env = { HTTP_PORT: ways[0]?.env.HTTP_PORT ?? '' };
  for (const token of ['', 'fedcba9876543210']) {
    const { code, stderr } = await runCli(t, ['call', 'echo'], { env: { ...env, HTTP_TOKEN: token } });
    t.is(code, 2);
    t.regex(
      stderr,
      /^forbidden: .*(send a token of|.*has no such token).*is HTTP_TOKEN one of the gateway's tokens\?/,
    );
  }
});

test('an HTTP server that is not a gateway is reported', async (t) => {
  const server = createServer((_request, response) => response.end('{"hello": "world"}')).listen(
    0,
    '127.0.0.1',
  );
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const HTTP_PORT = String((server.address() as AddressInfo).port);
  const { code, stdout, stderr } = await runCli(t, ['call', 'echo'], { env: { HTTP_PORT } });
  t.is(code, 1);
  t.is(stdout, '');
  t.regex(stderr, /the gateway does not list its actions .*is it a fleet-manager/);
});

if (rabbit !== undefined) {
  test('over RabbitMQ an action can be called that is not installed here', async (t) => {
    const { PLUGIN_PATHS: _, ...env } = ways[1]?.env ?? {};
    const given = [
      '--params',
      '{"map": {"region": "eu"}}',
      '--param',
      'n=3',
      '--param',
      'text=web@*.service',
    ];
    const done = await runCli(t, ['call', 'echo', ...given], { env });
    t.is(done.code, 0, done.stderr);
    t.deepEqual(JSON.parse(done.stdout), { map: { region: 'eu' }, n: 3, text: 'web@*.service', times: 2 });
    const wrong = await runCli(t, ['call', 'echo', '--param', 'text=3'], { env });
    t.is(wrong.code, 2);
    t.regex(wrong.stderr, /^invalid_parameters: text must be a `string`/);
    const unknown = await runCli(t, ['call', 'ehco'], { env });
    t.is(unknown.code, 2);
    t.regex(
      unknown.stderr,
      /^unknown_action: .*ehco\n-> the actions of the service are check_cluster, describe_actions, (?:\w+, )*echo, (?:\w+, )*list_machines, /,
    );
  });

  test('over RabbitMQ a queue without a service is reported', async (t) => {
    const env = { AMQP_URL: rabbit.url, QUEUE_NAME: `test_${randomUUID()}` };
    const { code, stderr } = await runCli(t, ['call', 'list_machines', '--cluster', 'x'], { env });
    t.is(code, 1);
    t.regex(
      stderr,
      /^service_unavailable: there is no queue test_.*is a fleet-manager running on this broker\?/,
    );
  });

  test('over RabbitMQ a broker that is down is reported at the time limit', async (t) => {
    const env = { AMQP_URL: 'amqp://user:Zqsecret@127.0.0.1:1' };
    const { code, stderr } = await runCli(
      t,
      ['call', 'list_machines', '--cluster', 'x', '--timeout', '0.1'],
      { env },
    );
    t.is(code, 1);
    t.regex(stderr, /^service_unavailable: no connection to a broker: .*ECONNREFUSED/);
    t.false(stderr.includes('Zq'));
  });
}
