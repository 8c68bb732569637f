import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { parseTokensFile } from '../src/access/http-tokens-file.js';
import { readPolicy } from '../src/access/read-policy.js';
import { readClustersFile } from '../src/clusters/clusters-file.js';
import { unitChanges } from '../src/plugin.js';
import { unreachableIn } from '../src/core/warnings.js';
import { httpStatusOf } from '../src/gateway/http-status.js';
import { readEnvelope } from '../src/rpc/envelope.js';
import { patternOf, shownCommands } from './documents/console.js';
import { type DocumentWorld, openDocumentWorld } from './documents/document-world.js';
import { type Block, blocksOf, pagesForPeople } from './documents/page-blocks.js';
import { runBlock, runOnTerminal, runUntil } from './documents/run-block.js';
import { rabbitmq } from './support/brokers.js';
import { noteSkipped } from './support/note-skipped.js';
import { inRepository, REPOSITORY } from './support/repository.js';

// Every command of the pages is run, and every sample of a configuration read, or else the table below says how it is checked.
// A new block needs a line there, and a line needs its block.

interface Context {
  world: DocumentWorld;
}
type Check = (t: ExecutionContext<Context>, block: Block) => unknown;

const test = anyTest as TestFn<Context>;
const run = promisify(execFile);

/** Pages whose blocks are all run by a test of their own. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'CONTRIBUTING.md': 'test/package.test.ts',
  'docs/tutorial.md': 'test/tutorial.test.ts',
};

/** The blocks by their page and how they begin. */
const CHECKS: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  'README.md': {
    // `npm ci` would take the packages away under the other tests.
    'npm ci\nnpm start': async (t, { text }) => {
      const { PATH = '', HOME = '', HTTP_PORT = '' } = t.context.world.env;
      const env = { PATH, HOME, HTTP_PORT };
      const printed = await runUntil(t, text.replace('npm ci\n', ''), /accepting requests/, {
        env,
        directory: REPOSITORY,
      });
      t.regex(printed, /SANDBOX[^]*curl -s http/);
    },
    'curl -s http://127.0.0.1:8080/v1/actions/list_machines': prints(
      /^\{.*"status":"completed".*"primaryIP"/,
    ),
    'npm run -s fleet-manager -- call': prints(/"name": "web@1\.service"[^]*list_units {2}read|list_units/, {
      directory: REPOSITORY,
    }),
    'npm ci && npm test': isOfScripts,
    // test/package.test.ts packs and installs it.
    'npm ci\nnpm pack': isOfScripts,
    'AMQP_URL=amqp://user:password@rabbitmq:5672 FLEET_API_PORT=49153 fleet-manager serve': serves,
    '{ "status": "not_started"': (t, { text }) => {
      t.like(readEnvelope(JSON.parse(text)), { action: 'list_units', etcdToken: 'TOKEN' });
    },
  },
  'docs/access.md': {
    '$ fleet-manager policy check': async (t, { text }) => {
      const { world } = t.context;
      const files = { POLICY_FILE: 'policy.yaml', CLUSTERS_FILE: 'clusters.json' };
      for (const block of await blocksOf('docs/access.md')) {
        const file = { yaml: files.POLICY_FILE, json: files.CLUSTERS_FILE }[block.language];
        if (file !== undefined) await writeFile(join(world.directory, file), block.text);
      }
      await shows(t, text, { env: { ...world.env, ...files } });
    },
    '# yaml-language-server': (t, { text }) => t.is(readPolicy(text).rules.length, 5),
    '{\n  "prod-eu"': (t, { text }) =>
      t.deepEqual([...readClustersFile(text, 49_153).names.values()], ['prod-eu', 'prod-us', 'test']),
  },
  'docs/actions.md': {
    'fleet-manager call check_cluster': prints(/"kind": "unit_unsatisfiable"/),
    'fleet-manager call describe_actions': prints(/^[{[]/m),
    'fleet-manager call destroy_unit': isOfPlugin('destroy-unit'),
    'fleet-manager call disable_unit': isOfPlugin('disable-unit'),
    'fleet-manager call enable_unit': isOfPlugin('enable-unit'),
    'fleet-manager call list_clusters': prints(/"sandbox-systemd"/),
    'fleet-manager call list_unit_files': prints(/"state": "launched"/),
    'fleet-manager call load_unit': isOfPlugin('load-unit'),
    'fleet-manager call put_unit': isOfPlugin('put-unit'),
    'fleet-manager call reload_unit': isOfPlugin('reload-unit'),
    'fleet-manager call reset_failed_unit': isOfPlugin('reset-failed-unit'),
    'fleet-manager call rollout': isOfPlugin('rollout'),
    'fleet-manager call start_unit': isOfPlugin('start-unit'),
    'fleet-manager call stop_unit': isOfPlugin('stop-unit'),
    'fleet-manager call unit_file': prints(/ExecStart=/),
    'fleet-manager call unload_unit': isOfPlugin('unload-unit'),
    'fleet-manager call list_machines': prints(/^\[/m),
    'fleet-manager call list_unit_states': prints(/"systemdActiveState": "active"/),
    'fleet-manager call list_units': prints(/"name": "web@1\.service"/),
    'fleet-manager call node_info': prints(/"127\.0\.0\.1": \{/),
    'fleet-manager call restart_unit': isOfPlugin('restart-unit'),
    'fleet-manager call unit_logs': prints(/docker\[\d+\]/),
    'fleet-manager call unit_status': prints(/"active": "active"/),
  },
  'docs/changes.md': {
    '{\n  "machine_id"': async (t, { text }) => {
      t.notThrows(() =>
        unitChanges().validateSync({ unit: 'web.service', changes: [JSON.parse(text)] }, { strict: true }),
      );
    },
  },
  'docs/clusters.md': {
    '# Plain hosts with systemd': (t, { text }) => {
      const { names, problems } = readClustersFile(text, 49_153);
      t.deepEqual([...names.values()], ['lab', 'test', 'prod']);
      t.deepEqual(problems, []);
    },
    '{\n  "lab"': async (t, { text }) => {
      const [yaml] = await blocksOf('docs/clusters.md');
      t.deepEqual(
        readClustersFile(text, 49_153).machines,
        readClustersFile(yaml?.text ?? '', 49_153).machines,
      );
      t.deepEqual(readClustersFile(text, 49_153).names, readClustersFile(yaml?.text ?? '', 49_153).names);
    },
    '{\n  "status"': (t, { text }) => {
      const { details } = JSON.parse(text) as { details: { unreachable: { host: string }[] } };
      t.deepEqual(unreachableIn(details), details.unreachable);
    },
  },
  // There is no container engine here: test/image/ checks the files that the blocks use.
  'docs/containers.md': {
    'docker build': usesFiles('Dockerfile'),
    'scripts/compose-secrets': usesFiles('scripts/compose-secrets', 'compose.yaml'),
    'podman build': usesFiles('Dockerfile', 'systemd/fleet-manager.container'),
  },
  'docs/callers.md': {
    'export AMQP_URL=amqp://user:password@rabbitmq:5672\npython3': withProgram(
      '/usr/bin/python3',
      '-c',
      'import pika',
    ),
    'export AMQP_URL=amqp://user:password@rabbitmq:5672\ngo build': withProgram('go', 'version'),
    'export AMQP_URL=amqp://user:password@rabbitmq:5672\nexport ERL_LIBS=$(echo /usr/lib/rabbitmq/lib/*/plugins)\nescript':
      withProgram('which', 'escript'),
    'export AMQP_URL=amqp://user:password@rabbitmq:5672\nexport ERL_LIBS=$(echo /usr/lib/rabbitmq/lib/*/plugins)\nelixir':
      withProgram('elixir', '--version'),
    'curl -sS --fail-with-body --retry 2': prints(/^\{.*"status":"completed".*web@1\.service/),
    'curl -sS --fail-with-body --max-time 65': prints(/web@1\.service was restarted/),
    'rabbitmqadmin declare queue': prints(/queue declared[^]*Message published[^]*list_machines/),
  },
  'docs/developing.md': {
    'npm ci\nscripts/install-services': isOfScripts,
  },
  'docs/http.md': {
    "curl -s http://127.0.0.1:8080/v1/actions/list_units -H 'content-type: application/json' -H 'timeout-ms":
      prints(/^\{.*"status":"completed".*web@1\.service/),
    '[\n  { "name": "ci"': (t, { text }) =>
      t.deepEqual(
        parseTokensFile(text).map(({ name }) => name),
        ['ci', 'ops'],
      ),
    'token=$(openssl rand -hex 32)': async (t, { text }) => {
      const { env, directory } = t.context.world;
      const [, token = '', sha256 = ''] =
        /^(\S{64})\n(\S{64}) /.exec(
          await runBlock(t, `${text}\necho`.replace('\n', '\necho "$token"\n'), { env, directory }),
        ) ?? [];
      const [found] = parseTokensFile(JSON.stringify([{ name: 'ci', sha256 }]));
      t.is(found?.sha256.toString('hex'), sha256);
      t.not(token, sha256);
    },
    'key=$(cat /proc/sys/kernel/random/uuid)': async (t, block) => {
      if (process.env.ETCD_URL === undefined) noteSkipped('a change with a key', 'ETCD_URL');
      else await prints(/web@1\.service was restarted/)(t, block);
    },
    "curl -s http://127.0.0.1:8080/v1/actions/list_units -H 'content-type: application/json' \\\n  -H 'accept":
      prints(/^\{"type":"urn:fleet-manager:error:cluster_not_found".*"status":404/),
    '{ "type": "urn:': (t, { text }) => {
      const { code, status, type } = JSON.parse(text) as Record<string, unknown>;
      t.is(type, `urn:fleet-manager:error:${String(code)}`);
      t.is(status, httpStatusOf(String(code)));
    },
    'curl -s http://127.0.0.1:8080/openapi.json': writes('openapi.json', /"openapi": ?"3\.1/),
  },
  'docs/operating.md': {
    '$ fleet-manager errors list': async (t, { text }) => {
      await addDeadMessages(t);
      await showsErrors(t, text);
    },
    '$ fleet-manager errors show': async (t, { text }) => showsErrors(t, text),
    // One of the two is refused.
    '$ fleet-manager errors replay': async (t, { text }) => showsErrors(t, text, 2),
    '$ fleet-manager errors drop': async (t, { text }) => showsErrors(t, text),
    '$ fleet-manager errors export': async (t, { text }) => showsErrors(t, text),
    'cp "$(npm root --global)': installs,
    'systemd-run --pipe': async (t, { text }) => {
      const folder = await systemFolder(t);
      await writeFile(join(folder, 'etc/fleet-manager/env'), 'ACTIONS=list_units\n');
      const { env, directory } = t.context.world;
      const { PATH = '', HOME = '', ETCD_DISCOVERY_URL = '' } = env;
      const printed = await runBlock(t, text.replaceAll(/(?<=[=:])\/etc\//g, `${folder}/etc/`), {
        env: { PATH, HOME, ETCD_DISCOVERY_URL },
        directory,
      });
      t.regex(printed, /^ok +configuration on RabbitMQ alone$/m);
    },
    'OTEL_EXPORTER_OTLP_ENDPOINT=': serves,
  },
  'docs/queue.md': {
    '{ "status": "not_started"': (t, { text }) => {
      t.like(readEnvelope(JSON.parse(text)), { action: 'list_units' });
    },
    'fleet-manager asyncapi': writes('asyncapi.json', /"asyncapi": ?"3\./),
  },
  'docs/operations/README.md': {
    scrape_configs: async (t, { text }) => {
      if (!existsSync('/usr/bin/promtool')) {
        noteSkipped('the sample for Prometheus', 'promtool');
        return;
      }
      const file = join(t.context.world.directory, 'prometheus.yml');
      await writeFile(file, text);
      await t.notThrowsAsync(run('/usr/bin/promtool', ['check', 'config', '--syntax-only', file]));
    },
  },
  'plugins/check-cluster/README.md': { 'fleet-manager call': prints(/"kind": "unit_unsatisfiable"/) },
  'plugins/describe-actions/README.md': { 'fleet-manager call': prints(/"list_units"/) },
  'plugins/list-clusters/README.md': { 'fleet-manager call': prints(/"sandbox-systemd"/) },
  'plugins/disable-unit/README.md': { 'fleet-manager call': prints(/"did": "(?:disabled|nothing)"/) },
  'plugins/enable-unit/README.md': { 'fleet-manager call': prints(/"did": "enabled"/) },
  'plugins/list-unit-files/README.md': { 'fleet-manager call': prints(/"unit": "mailer@\.service"/) },
  'plugins/load-unit/README.md': { 'fleet-manager call': prints(/"did": "(?:loaded|nothing)"/) },
  'plugins/put-unit/README.md': { 'fleet-manager call': prints(/"did": "replaced"/) },
  'plugins/reload-unit/README.md': { 'fleet-manager call': prints(/"did": "reloaded"/) },
  'plugins/reset-failed-unit/README.md': { 'fleet-manager call': prints(/"did": "reset"/) },
  'plugins/rollout/README.md': { 'fleet-manager call': prints(/"ended": "planned"[^]*"ended": "completed"/) },
  'plugins/start-unit/README.md': { 'fleet-manager call': prints(/"did": "(?:started|nothing)"/) },
  'plugins/stop-unit/README.md': { 'fleet-manager call': prints(/"did": "stopped"/) },
  'plugins/unit-file/README.md': { 'fleet-manager call': prints(/Ticket shop/) },
  'plugins/unload-unit/README.md': { 'fleet-manager call': prints(/"did": "(?:unloaded|nothing)"/) },
  'plugins/destroy-unit/README.md': { 'fleet-manager call': prints(/"did": "stopped and removed"/) },
  'plugins/list-machines/README.md': { 'fleet-manager call': prints(/"primaryIP"/) },
  'plugins/list-units/README.md': { 'fleet-manager call': prints(/"name": "web@1\.service"/) },
  'plugins/node-info/README.md': { 'fleet-manager call': prints(/"127\.0\.0\.1": \{/) },
  'plugins/restart-unit/README.md': { 'fleet-manager call': prints(/web@1\.service was restarted/) },
  'plugins/unit-logs/README.md': { 'fleet-manager call': prints(/docker\[\d+\]/) },
  'plugins/unit-states/README.md': { 'fleet-manager call': prints(/"systemdActiveState": "active"/) },
  'plugins/unit-status/README.md': { 'fleet-manager call': prints(/"active": "active"/) },
};

const CHECKED = new Set(['sh', 'console', 'json', 'yaml', 'ini', 'toml']);

test('each block of commands and of configuration on the pages is in the table, and the table has no others', async (t) => {
  for (const page of await pagesForPeople()) {
    const blocks = (await blocksOf(page)).filter(({ language }) => CHECKED.has(language));
    const elsewhere = ELSEWHERE[page];
    if (elsewhere !== undefined) {
      t.true((await readFile(inRepository(elsewhere), 'utf8')).includes(page), `${elsewhere}: ${page}`);
      continue;
    }
    const beginnings = Object.keys(CHECKS[page] ?? {});
    for (const { line, text } of blocks)
      t.is(
        beginnings.filter((each) => text.startsWith(each)).length,
        1,
        `${page}:${line} is not in the table once`,
      );
    t.is(blocks.length, beginnings.length, `${page} has no such block: ${beginnings.join(' | ')}`);
  }
  const pages = new Set(await pagesForPeople());
  t.deepEqual(
    [...Object.keys(CHECKS), ...Object.keys(ELSEWHERE)].filter((page) => !pages.has(page)),
    [],
  );
});

test('each block says what it is, and only blocks that are run show commands', async (t) => {
  for (const page of await pagesForPeople())
    for (const { language, line, text } of await blocksOf(page)) {
      t.not(language, '', `${page}:${line} has no language; output alone is \`text\``);
      if (language === 'text')
        t.notRegex(text, /^\$ /m, `${page}:${line} shows a command: it is \`console\``);
    }
});

test('each block of commands can be copied as it is', async (t) => {
  for (const page of await pagesForPeople())
    for (const { language, line, text } of await blocksOf(page)) {
      if (language !== 'sh') continue;
      t.false(text.includes('...'), `${page}:${line} leaves something out`);
      t.notRegex(text, /^\$ /m, `${page}:${line} has a prompt`);
      await t.notThrowsAsync(run('bash', ['-n', '-c', text]), `${page}:${line}`);
    }
});

if (rabbitmq() !== undefined) {
  const teardowns: (() => unknown)[] = [];
  test.before(async (t) => {
    const teardown = (each: () => unknown) => void teardowns.unshift(each);
    t.context.world = await openDocumentWorld({ teardown });
  });
  test.after.always(async () => {
    for (const teardown of teardowns) await teardown();
  });

  for (const [page, checks] of Object.entries(CHECKS))
    for (const [begins, check] of Object.entries(checks))
      test.serial(`${page}: ${begins.trim().replaceAll('\n', '; ')}`, async (t) => {
        const block = (await blocksOf(page)).find(({ text }) => text.startsWith(begins));
        if (block === undefined) throw new Error(`${page} has no block that begins with ${begins}`);
        await check(t, block);
        t.pass();
      });
}

const MINUTE_MS = 60_000;
/** A queue that no worker reads, so that what is replayed stays there. */
const DEAD_QUEUE = 'documented';
const deployer = {
  'x-caller': 'deployer',
  'x-caller-verified-by': 'broker',
  'x-door': '',
  'timeout-ms': 30_000,
};

/** Fills the error queue with the messages that docs/operating.md shows. */
async function addDeadMessages(t: ExecutionContext<Context>): Promise<void> {
  const connection = await connect(t.context.world.amqpUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(DEAD_QUEUE, { durable: true });
  await channel.assertQueue(`${DEAD_QUEUE}_error`, { durable: true });
  const body = (action: string, more: object) =>
    JSON.stringify({
      request_body: { action, etcd_token: 'aToken0123456789aToken', action_parameters: more },
    });
  const lost = { 'x-may-have-begun': true };
  for (const [text, reason, ageMs, more] of [
    ['{"response_body":{},"status":null}', 'the message has no request_body', 26 * 60 * MINUTE_MS, {}],
    [body('list_units', { name: 'web@*.service' }), FAILED, 11 * MINUTE_MS, lost],
    [
      body('restart_unit', { unit_name: 'a.service' }),
      'its processes have ended twice, so it is not tried again',
      8 * MINUTE_MS,
      lost,
    ],
  ] as const) {
    const at = Date.now() - ageMs;
    channel.sendToQueue(`${DEAD_QUEUE}_error`, Buffer.from(text), {
      persistent: true,
      correlationId: '77',
      replyTo: 'deployer.replies',
      messageId: '0c7d',
      userId: 'guest',
      headers: {
        'x-reason': reason,
        'x-dead-lettered-at': at,
        'x-ends-at': at + 30_000,
        ...deployer,
        ...more,
      },
    });
  }
  await channel.waitForConfirms();
  await connection.close();
}

/** The same with the ids and the cluster that this error queue has. */
async function showsErrors(t: ExecutionContext<Context>, text: string, exitCode = 0): Promise<void> {
  const { directory, env: given } = t.context.world;
  const env = { ...given, QUEUE_NAME: DEAD_QUEUE };
  const shown = new Map([
    ['cf15e0737d88', 'the message has no request_body'],
    ['b9b13a827494', FAILED],
    ['23449a5098ae', 'its processes'],
  ]);
  const listed = await runBlock(t, 'fleet-manager errors list --json', { env, directory });
  const { messages } = JSON.parse(listed) as {
    messages: { id: string; reason: string; cluster: string | null }[];
  };
  let written = text.replaceAll('fleet_manager"', 'guest"');
  for (const [id, reason] of shown) {
    const message = messages.find((each) => each.reason.startsWith(reason));
    if (message === undefined) continue;
    written = written.replaceAll(id, message.id).replaceAll(id.slice(0, 4), message.id.slice(0, 4));
    if (message.cluster !== null) written = written.replaceAll('3eb1bd4399', message.cluster);
  }
  await shows(t, written, { env, exitCode });
}

const FAILED = "the service failed to handle it; the service's log has the reason";

/** The commands of a `console` block print on a terminal what it shows. */
async function shows(
  t: ExecutionContext<Context>,
  text: string,
  options: { env?: DocumentWorld['env']; exitCode?: number } = {},
): Promise<void> {
  const { directory, env } = t.context.world;
  for (const { command, output } of shownCommands(text))
    t.regex(await runOnTerminal(t, command, { env, directory, ...options }), patternOf(output), command);
}

/** The block ends well, and prints this. */
function prints(pattern: RegExp, { directory }: { directory?: string } = {}): Check {
  return async (t, { text }) => {
    const { world } = t.context;
    const options = { env: world.env, directory: directory ?? world.directory };
    t.regex(await runBlock(t, world.replaced(text), options), pattern);
  };
}

/** A change, which takes seconds: that of the plugin's page is run. */
function isOfPlugin(folder: string): Check {
  return async (t, { text }) => {
    const [action] = /^fleet-manager call \w+/.exec(text) ?? [];
    const [onPage] = await blocksOf(`plugins/${folder}/README.md`);
    t.true(action !== undefined && onPage?.text.startsWith(action), text);
  };
}

/** The block writes a file, which has this. */
function writes(file: string, pattern: RegExp): Check {
  return async (t, block) => {
    await prints(/^$/)(t, block);
    t.regex(await readFile(join(t.context.world.directory, file), 'utf8'), pattern);
  };
}

/** The block names files of the repository, which are there. */
function usesFiles(...files: readonly string[]): Check {
  return (t, { text }) => {
    for (const file of files) t.true(existsSync(inRepository(file)), file);
    const named = [...text.matchAll(/(?:^| )((?:scripts|systemd)\/[\w.-]+)/gm)].map(([, file = '']) => file);
    t.deepEqual(
      named.filter((file) => !existsSync(inRepository(file))),
      [],
    );
  };
}

/** The block calls `list_units` with a program of docs/callers.md, where what runs it is installed. */
function withProgram(program: string, ...args: readonly string[]): Check {
  return async (t, block) => {
    const isThere = await run(program, args).then(
      () => true,
      () => false,
    );
    if (isThere) await prints(/web@1\.service/)(t, block);
    else noteSkipped(`a command of ${block.page}`, program);
  };
}

/** The block starts a service that takes requests, and goes on. */
async function serves(t: ExecutionContext<Context>, { text }: Block): Promise<void> {
  const { env, directory, replaced } = t.context.world;
  await runUntil(t, replaced(text), /accepting requests/, { env, directory });
  t.pass();
}

/** Commands that take long, or change the clone: each names a script of the package, a program of the repository, or npm's own. */
async function isOfScripts(t: ExecutionContext<Context>, { text }: Block): Promise<void> {
  const { scripts } = JSON.parse(await readFile(inRepository('package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const commands = text
    .replaceAll(/ *#.*$/gm, '')
    .split(/\n|&&/)
    .map((command) => command.trim());
  for (const command of commands) {
    const [, script] = /^npm (?:run (\S+)|(?=test))/.exec(command) ?? [];
    if (command.startsWith('scripts/')) t.true(existsSync(inRepository(command)), command);
    else if (/^npm (ci|pack|install --global \S+\.tgz)$/.test(command)) t.pass();
    else t.true(Object.hasOwn(scripts, script ?? 'test') && command.startsWith('npm '), command);
  }
}

/**
 * The folders of the machine that a block for root writes to, below another root, and commands that stand for npm's global folder,
 * systemctl, and systemd-run as far as it sets the environment and the credentials of a command.
 */
async function systemFolder(t: ExecutionContext<Context>): Promise<string> {
  const { directory, command, amqpUrl } = t.context.world;
  const folder = await mkdtemp(join(directory, 'machine-'));
  await mkdir(join(folder, 'etc/systemd/system'), { recursive: true });
  await mkdir(join(folder, 'etc/fleet-manager/credentials'), { recursive: true });
  await mkdir(join(folder, 'lib'));
  await symlink(REPOSITORY, join(folder, 'lib/fleet-manager'));
  await writeFile(join(folder, 'etc/fleet-manager/credentials/AMQP_URL'), amqpUrl);
  await command('systemctl', `echo "systemctl $*"`);
  await command(
    'systemd-run',
    `export CREDENTIALS_DIRECTORY=$(mktemp -d)
while [[ $1 == --* ]]; do
  case $1 in
    --setenv=*) export "\${1#--setenv=}" ;;
    --property=EnvironmentFile=*) set -a; . "\${1#*File=}"; set +a ;;
    --property=LoadCredential=*) IFS=: read -r name source <<<"\${1#*Credential=}"
      for file in "$source"/*; do cp "$file" "$CREDENTIALS_DIRECTORY/\${name}_\${file##*/}"; done ;;
    --property=DynamicUser=yes | --property=StateDirectory=* | --pipe | --wait) ;;
    *) echo "systemd-run: $1" >&2; exit 64 ;;
  esac
  shift
done
export HTTP_PORT=0
"$@"`,
  );
  return folder;
}

async function installs(t: ExecutionContext<Context>, { text }: Block): Promise<void> {
  const folder = await systemFolder(t);
  const { env, directory, replaced, amqpUrl } = t.context.world;
  const here = replaced(text)
    .replaceAll(/(?<=[ ])\/etc\//g, `${folder}/etc/`)
    .replace('$(npm root --global)', `${folder}/lib`);
  const printed = await runBlock(t, here, { env, directory });
  t.is(printed, 'systemctl enable --now fleet-manager\n');
  const installed = join(folder, 'etc/systemd/system/fleet-manager.service');
  t.is(
    await readFile(installed, 'utf8'),
    await readFile(inRepository('systemd/fleet-manager.service'), 'utf8'),
  );
  const secret = join(folder, 'etc/fleet-manager/credentials/AMQP_URL');
  t.is((await readFile(secret, 'utf8')).trim(), amqpUrl);
  t.is((await stat(secret)).mode & 0o777, 0o600);
  t.is((await stat(join(folder, 'etc/fleet-manager/credentials'))).mode & 0o777, 0o700);
}
