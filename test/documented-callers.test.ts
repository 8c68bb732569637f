import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { ERROR_CODES } from '../src/api/error-codes.js';
import { describeActions } from '../src/composition.js';
import { fieldsOf } from '../src/lib/fields-of.js';
import { type Sandbox, startSandbox } from '../src/sandbox/sandbox.js';
import { readConfiguration } from '../src/settings/read-configuration.js';
import { blocksOf } from './documents/page-blocks.js';
import { rabbitmq } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { startWorker, type Worker } from './support/worker.js';

// The programs of docs/callers.md, as they stand there, with the clients of Debian, on RabbitMQ and the service.

const run = promisify(execFile);
const PAGE = 'docs/callers.md';
const GO_PATH = '/usr/share/gocode';
const libraries = await erlangLibraries();

interface Language {
  /** That of the block on the page. */
  name: string;
  file: string;
  /** What is missing here; undefined: nothing. */
  missing: string | undefined;
  /** The program and its arguments, before those of the call. */
  command: readonly [string, ...string[]];
  /** Makes the program of the source. */
  build?: (folder: string) => Promise<unknown>;
  /** The permissions that the page says it needs. */
  permissions: { configure: string; read: string };
  /** Its arguments for the parameter of a unit's name. */
  unit: (name: string) => string;
}

const NO_QUEUE = { configure: '^$', read: '^$' };
const OWN_QUEUE = {
  configure: '^fleet_manager\\.reply\\..*$',
  read: '^fleet_manager\\.reply\\..*$',
};
const asJson = (name: string) => JSON.stringify({ unit_name: name });
const asText = (name: string) => `unit_name=${name}`;

const LANGUAGES: readonly Language[] = [
  {
    name: 'python',
    file: 'fleet_call.py',
    missing: (await works('/usr/bin/python3', '-c', 'import pika')) ? undefined : 'python3-pika',
    // Debian's, which has Debian's packages.
    command: ['/usr/bin/python3', 'fleet_call.py'],
    permissions: NO_QUEUE,
    unit: asJson,
  },
  {
    name: 'go',
    file: 'fleet_call.go',
    missing:
      (await works('go', 'version')) && existsSync(`${GO_PATH}/src/github.com/rabbitmq/amqp091-go`)
        ? undefined
        : 'golang-go and golang-github-rabbitmq-amqp091-go-dev',
    command: ['./fleet_call'],
    build: async (folder) =>
      run('go', ['build', 'fleet_call.go'], {
        cwd: folder,
        env: { PATH: process.env.PATH, GO111MODULE: 'off', GOPATH: GO_PATH, GOCACHE: join(folder, 'cache') },
      }),
    permissions: OWN_QUEUE,
    unit: asJson,
  },
  {
    name: 'erlang',
    file: 'fleet_call.escript',
    missing: libraries === undefined ? "RabbitMQ's Erlang client" : undefined,
    command: ['escript', 'fleet_call.escript'],
    permissions: OWN_QUEUE,
    unit: asText,
  },
  {
    name: 'elixir',
    file: 'fleet_call.exs',
    missing: libraries !== undefined && (await works('elixir', '--version')) ? undefined : 'elixir',
    command: ['elixir', 'fleet_call.exs'],
    permissions: NO_QUEUE,
    unit: asText,
  },
];

interface Context {
  broker: OwnBroker;
  sandbox: Sandbox;
  worker: Worker;
  folder: string;
}

const test = anyTest as TestFn<Context>;

test('the programs of the page know which actions change nothing, and which codes allow a retry', async (t) => {
  const catalogue = await describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));
  const actions = catalogue.describe();
  const namesIn = (text: string, names: readonly string[]) =>
    names.filter((name) => new RegExp(`\\b${name}\\b`).test(text));
  for (const { name } of LANGUAGES) {
    const source = await sourceIn(name);
    const [, reads = '', retryable = ''] = /\bREADS\b(.*?)\bRETRYABLE\b(.*?)\n\n/is.exec(source) ?? [];
    t.deepEqual(
      namesIn(
        reads,
        actions.map((action) => action.name),
      ),
      actions.filter(({ effect }) => effect === 'read').map((action) => action.name),
      name,
    );
    t.deepEqual(
      namesIn(retryable, Object.keys(ERROR_CODES)),
      Object.entries(ERROR_CODES)
        // Only a change with a key gets codes of keys, and the programs repeat reads.
        .filter(([code, { retryable: isRetryable }]) => isRetryable && !code.startsWith('idempotency_'))
        .map(([code]) => code),
      name,
    );
  }
});

const present = LANGUAGES.filter(({ name, missing }) => {
  if (missing !== undefined) noteSkipped(`the program in ${name} of ${PAGE}`, missing);
  return missing === undefined;
});

if (rabbitmq() !== undefined) {
  const teardowns: (() => unknown)[] = [];
  const shared = {
    teardown: (teardown: () => unknown) => void teardowns.unshift(teardown),
  };
  test.before(async (t) => {
    const sandbox = await startSandbox();
    shared.teardown(() => sandbox.stop());
    const { broker, remove } = await startOwnBroker();
    shared.teardown(remove);
    const folder = await mkdtemp(join(tmpdir(), 'callers-'));
    shared.teardown(async () => rm(folder, { recursive: true }));
    const worker = await startWorker(shared, {
      AMQP_URL: broker.url,
      ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
      FLEET_API_PORT: `${sandbox.fleetPort}`,
      ALLOWED_HOSTS: '127.0.0.0/8',
    });
    await broker.eval(usersAndVhosts(broker));
    for (const language of present) {
      const own = join(folder, language.name);
      await mkdir(own);
      await writeFile(join(own, language.file), `${await sourceIn(language.name)}\n`);
      await language.build?.(own);
    }
    Object.assign(t.context, { broker, sandbox, worker, folder } satisfies Context);
  });
  test.after.always(async () => {
    for (const teardown of teardowns) await teardown();
  });

  test.serial('the programs change something, with parameters', async (t) => {
    const { sandbox } = t.context;
    const units = sandbox.cluster
      .units()
      .map(({ name }) => name)
      .filter((name) => /^web@\d/.test(name));
    // At the same time: each restart waits until its unit has run for seconds.
    const restarts = present.map(async (language, at) => {
      const unit = units[at] ?? '';
      const before = sandbox.cluster.history(unit).length;
      const { code, stderr } = await call(t, language, ['restart_unit', 'sandbox', language.unit(unit)]);
      t.is(code, 0, stderr);
      t.true(sandbox.cluster.history(unit).length > before, language.name);
    });
    await Promise.all(restarts);
  });

  for (const language of present) {
    const { name } = language;

    test.serial(`the program in ${name} prints the result, and is known by its user`, async (t) => {
      const { sandbox, worker } = t.context;
      const { code, stdout, stderr } = await call(t, language, ['list_machines', 'sandbox']);
      t.is(code, 0, stderr);
      for (const { id } of sandbox.cluster.machines) t.true(stdout.includes(id), stdout);
      await eventually('the log names the caller', () =>
        ended(worker, 'completed', name).find(({ action }) => action === 'list_machines'),
      );
    });

    test.serial(`the program in ${name} ends with the code of an error`, async (t) => {
      const { code, stderr } = await call(t, language, [
        'restart_unit',
        'sandbox',
        language.unit('no.service'),
      ]);
      t.is(code, 1);
      t.regex(stderr, /^unit_not_found: .*no\.service/);
    });

    test.serial(`the program in ${name} repeats a read that may succeed later, and no change`, async (t) => {
      const { sandbox, worker } = t.context;
      const failures = (action: string) =>
        ended(worker, 'failed', name).filter(
          (line) => line.action === action && line.code === 'cluster_unhealthy',
        );
      const heal = sandbox.cluster.fail({ kind: '503' });
      try {
        const change = await call(t, language, ['restart_unit', 'sandbox', language.unit('web@1.service')]);
        t.regex(change.stderr, /^cluster_unhealthy: /);
        const read = call(t, language, ['list_machines', 'sandbox']);
        await eventually('the read has failed', () => failures('list_machines').length > 0);
        t.is(failures('restart_unit').length, 1);
        await heal();
        const { code, stderr } = await read;
        t.is(code, 0, stderr);
      } finally {
        await heal();
      }
    });

    test.serial(`the program in ${name} says when there is no queue, and when nobody replies`, async (t) => {
      const change = ['restart_unit', 'sandbox', language.unit('web@1.service')];
      const nowhere = await call(t, language, change, { vhost: 'empty' });
      t.regex(nowhere.stderr, /^service_unavailable: there is no queue fleet_manager$/m);
      const directory = await hurriedFolder(t, language);
      const { code, stderr } = await call(t, language, change, { vhost: 'silent', directory });
      t.is(code, 1);
      t.regex(stderr, /^outcome_unknown: /);
    });
  }
}

/**
 * The Erlang expression that adds a user for each language, with what the page says it needs; `empty`, where there is no queue;
 * and `silent`, where nobody takes from it. All in one, because each takes seconds on a busy machine.
 */
function usersAndVhosts({ password }: OwnBroker): string {
  const binary = (text: string) => `<<${JSON.stringify(text)}>>`;
  const permissions = (user: string, vhost: string, given: readonly string[]) =>
    `rabbit_auth_backend_internal:set_permissions(${[user, vhost, ...given, 'test'].map(binary).join(', ')})`;
  return [
    ...['empty', 'silent'].map((vhost) => `rabbit_vhost:add(${binary(vhost)}, <<"test">>)`),
    'rabbit_amqqueue:declare({resource, <<"silent">>, queue, <<"fleet_manager">>}, true, false, [], none, <<"test">>)',
    ...present.flatMap(({ name, permissions: { configure, read } }) => [
      `rabbit_auth_backend_internal:add_user(${binary(name)}, ${binary(password)}, <<"test">>)`,
      permissions(name, '/', [configure, '^amq\\.default$', read]),
      ...['empty', 'silent'].map((vhost) => permissions(name, vhost, [configure, '^amq\\.default$', read])),
    ]),
    'ok',
  ].join(', ');
}

/** The log's lines of the requests of a caller that ended so. */
function ended(worker: Worker, how: 'completed' | 'failed', caller: string) {
  return worker.lines.filter((line) => line.message === `request ${how}` && line.caller === caller);
}

/** The source of a program on the page. */
async function sourceIn(language: string): Promise<string> {
  const found = (await blocksOf(PAGE)).filter((block) => block.language === language);
  const [block] = found;
  if (block === undefined || found.length !== 1)
    throw new Error(`${PAGE} has ${found.length} blocks of ${language}`);
  return block.text;
}

/** A folder with the program of a language, which waits for a reply no longer than a second. */
async function hurriedFolder(t: ExecutionContext<Context>, language: Language): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'caller-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const source = await sourceIn(language.name);
  const hurried = source
    .replaceAll(/\b30(_?000)?\b/g, (_, milliseconds = '') => `1${milliseconds}`)
    .replaceAll(/(\+ ?)5(_?000|\*|$)/gm, (_, plus, rest) => `${plus}0${rest}`);
  t.is(hurried.split('\n').filter((line, at) => line !== source.split('\n')[at]).length, 2, hurried);
  await writeFile(join(folder, language.file), `${hurried}\n`);
  await language.build?.(folder);
  return folder;
}

async function call(
  { context: { broker, folder } }: ExecutionContext<Context>,
  { name, command: [program, ...first] }: Language,
  args: readonly string[],
  { vhost = '', directory = join(folder, name) }: { vhost?: string; directory?: string } = {},
): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    LANG: 'C.UTF-8',
    AMQP_URL: `amqp://${name}:${broker.password}@127.0.0.1:${broker.port}${vhost === '' ? '' : `/${vhost}`}`,
    ...(libraries !== undefined && { ERL_LIBS: libraries }),
  };
  try {
    return { code: 0, ...(await run(program, [...first, ...args], { cwd: directory, env })) };
  } catch (error) {
    const { code, stdout, stderr } = fieldsOf(error);
    return { code, stdout: String(stdout), stderr: String(stderr) };
  }
}

/** Whether a program is there, and does this. */
async function works(program: string, ...args: readonly string[]): Promise<boolean> {
  return run(program, args).then(
    () => true,
    () => false,
  );
}

/** The folder with RabbitMQ's libraries. */
async function erlangLibraries(): Promise<string | undefined> {
  const lib = '/usr/lib/rabbitmq/lib';
  if (!existsSync(lib)) return undefined;
  const server = (await readdir(lib)).find((name) => name.startsWith('rabbitmq_server-'));
  return server === undefined ? undefined : `${lib}/${server}/plugins`;
}
