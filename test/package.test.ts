import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Ended, type RunningCli, startProgram } from './commands/cli-process.js';
import { followPage } from './documents/followed-page.js';
import { REPOSITORY } from './support/repository.js';

/** What `npm pack` builds from and packs. */
const SOURCES = [
  'src',
  'plugins',
  'scripts',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'docs',
  'schemas',
  'systemd',
  'templates',
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'LICENSE',
];

/** The working folder, removed at the end. */
let root = '';
/** The file of the package. */
let tarball = '';
/** An empty folder in which the package was installed, and nothing else. */
let installed = '';
/** The paths in the package. */
let packed: string[] = [];
/** The output of npm during the installation. */
let said = '';

test.before('the package is built, packed and installed', async () => {
  root = await mkdtemp(join(tmpdir(), 'package-'));
  // A copy, so that the repository's own dist/ stays unchanged.
  const stage = join(root, 'stage');
  for (const name of SOURCES) await cp(join(REPOSITORY, name), join(stage, name), { recursive: true });
  await symlink(join(REPOSITORY, 'node_modules'), join(stage, 'node_modules'));
  await npm(stage, 'pack', '--pack-destination', root);
  tarball = join(root, (await readdir(root)).find((name) => name.endsWith('.tgz')) ?? '');
  installed = join(root, 'installed');
  await mkdir(installed);
  said = await npm(
    installed,
    'install',
    '--prefer-offline',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    tarball,
  );
  packed = (
    await readdir(join(installed, 'node_modules/fleet-manager'), { recursive: true, withFileTypes: true })
  )
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name).slice(installed.length + '/node_modules/fleet-manager/'.length),
    );
});

test.after.always(async () => {
  if (root !== '') await rm(root, { recursive: true });
});

/** A hook has no teardown, so processes that it starts end with the test process. */
const untilExit = { teardown: () => {} };

/** How this machine reaches a registry. */
function npmSettings(): Record<string, string> {
  const proxies = Object.entries(process.env).filter(([name]) =>
    /^(https?_proxy|no_proxy|npm_config_.*)$/i.test(name),
  );
  return Object.fromEntries(proxies.map(([name, value]) => [name, value ?? '']));
}

/** @returns its output */
async function npm(directory: string, ...args: string[]): Promise<string> {
  const home = { HOME: process.env.HOME ?? '' };
  const { code, stdout, stderr } = await startProgram(untilExit, ['npm', ...args], {
    env: { ...npmSettings(), ...home },
    directory,
  }).ended;
  if (code !== 0) throw new Error(`npm ${args.join(' ')} failed:\n${stdout}\n${stderr}`);
  return `${stdout}\n${stderr}`;
}

/** Starts the installed command. */
function start(t: ExecutionContext, args: string[], env: Record<string, string> = {}): RunningCli {
  return startProgram(t, [join(installed, 'node_modules/.bin/fleet-manager'), ...args], {
    env,
    directory: installed,
  });
}

async function run(
  t: ExecutionContext,
  program: [string, ...string[]],
  directory = installed,
): Promise<Ended> {
  return startProgram(t, program, { env: { HOME: root }, directory }).ended;
}

/** A folder with these files. */
async function folder(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(root, 'folder-'));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

test('the package contains what it needs and nothing else', async (t) => {
  for (const path of [
    'package.json',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
    'systemd/fleet-manager.service',
    'dist/src/cli.js',
    'dist/src/isolated-handlers.js',
    'dist/src/plugin.d.ts',
    'dist/src/client/client.d.ts',
  ])
    t.true(packed.includes(path), path);
  t.deepEqual(
    packed
      .filter((path) => !/^(dist|docs|templates)\//.test(path) && !/^plugins\/[^/]+\/README\.md$/.test(path))
      .toSorted(),
    [
      'CHANGELOG.md',
      'CONTRIBUTING.md',
      'LICENSE',
      'README.md',
      'package.json',
      'schemas/asyncapi.json',
      'schemas/policy.schema.json',
      'systemd/fleet-manager.container',
      'systemd/fleet-manager.service',
    ],
  );
  const bundle = /^dist\/src\/fleet-manager\.(cjs|cjs\.[0-9a-f]{16}\.cache|licenses\.txt)$/;
  t.is(packed.filter((path) => bundle.test(path)).length, 3);
  t.deepEqual(
    packed.filter(
      (path) =>
        path.startsWith('dist/') &&
        !/^dist\/(src|plugins)\/.*(\.js|\.d\.ts)$/.test(path) &&
        !bundle.test(path),
    ),
    [],
  );
  const templates = await readdir(join(REPOSITORY, 'templates'), { recursive: true, withFileTypes: true });
  t.deepEqual(
    packed.filter((path) => path.startsWith('templates/')).toSorted(),
    templates
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(REPOSITORY.length + 1))
      .toSorted(),
  );
  const plugins = await readdir(join(REPOSITORY, 'plugins'));
  for (const name of plugins) t.true(packed.includes(`dist/plugins/${name}/index.js`), name);
});

test('every command runs for a user without a passwd entry and without a home, in a folder that it cannot write', async (t) => {
  const nobody = '12345';
  const readOnly = await folder({});
  for (const each of [root, installed]) await chmod(each, 0o755);
  const startAs = (args: string[], env: Record<string, string> = {}) => {
    const program = join(installed, 'node_modules/fleet-manager/dist/src/cli.js');
    const user = ['--reuid', nobody, '--regid', nobody, '--clear-groups'];
    const command: [string, ...string[]] = ['setpriv', ...user, process.execPath, program, ...args];
    return startProgram(t, command, { env, directory: readOnly });
  };
  const failed = { AMQP_URL: 'amqp://127.0.0.1:1', ETCD_DISCOVERY_URL: 'http://127.0.0.1:1' };
  for (const [args, code, printed] of [
    [['actions'], 0, /^list_units /m],
    [['config'], 0, /^SSH_KNOWN_HOSTS +- +unset$/m],
    [['doctor'], 1, /known_hosts +this user has no home folder.*\n +-> set SSH_KNOWN_HOSTS/],
    [['call', 'list_units', '--timeout', '1'], 2, /etcd_token|--cluster|service_unavailable/],
  ] as const) {
    const ended = await startAs([...args], failed).ended;
    t.notRegex(`${ended.stdout}${ended.stderr}`, /^ +at |uv_os_homedir/m);
    t.regex(`${ended.stdout}${ended.stderr}`, printed);
    t.true(ended.code === code || args[0] === 'call', `${args.join(' ')}: ${ended.stderr}`);
  }
  const service = startAs(['serve'], { ...failed, HTTP_PORT: '0' });
  await service.printed(/service started/);
  service.kill('SIGTERM');
  t.is((await service.ended).code, 0);
});

test('npm builds the package when it installs it from a git URL', async (t) => {
  const source = join(root, 'source');
  for (const name of SOURCES) await cp(join(REPOSITORY, name), join(source, name), { recursive: true });
  const description = JSON.parse(await readFile(join(source, 'package.json'), 'utf8'));
  // Only what the build needs: npm installs them all.
  const { typescript, rolldown, '@types/node': node, '@types/ssh2': ssh2 } = description.devDependencies;
  description.devDependencies = { typescript, rolldown, '@types/node': node, '@types/ssh2': ssh2 };
  await writeFile(join(source, 'package.json'), JSON.stringify(description));
  const git = async (...args: string[]) => {
    const { code, stderr } = await run(t, ['git', ...args], source);
    t.is(code, 0, stderr);
  };
  await git('init', '--quiet');
  await git('add', '.');
  await git('-c', 'user.name=test', '-c', 'user.email=test@example.org', 'commit', '--quiet', '-m', 'All');
  const app = await folder({});
  await npm(app, 'install', '--prefer-offline', '--no-audit', '--no-fund', `git+file://${source}`);
  const { code, stdout } = await run(t, [join(app, 'node_modules/.bin/fleet-manager'), '--version']);
  t.is(stdout, `${description.version}\n`);
  t.is(code, 0);
});

test('no installed dependency needs another version of Node.js than the package', (t) => {
  t.notRegex(said, /EBADENGINE/);
});

test('every link in the pages of the package has a target in it', async (t) => {
  const home = join(installed, 'node_modules/fleet-manager');
  const pages = packed.filter((path) => path.endsWith('.md'));
  for (const page of pages) {
    const content = await readFile(join(home, page), 'utf8');
    const links = [...content.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link = '']) => link);
    for (const link of links) {
      const target = join(dirname(page), link).replace(/\/$/, '');
      t.true(
        packed.some((path) => path === target || path.startsWith(`${target}/`)),
        `${page}: ${link}`,
      );
    }
  }
});

test('everything in CONTRIBUTING.md works, in its order, for a reader in an empty folder', async (t) => {
  const directory = await folder({});
  const blocks = await followPage(t, 'CONTRIBUTING.md', {
    directory,
    env: { ...npmSettings(), HOME: process.env.HOME ?? '', npm_config_prefer_offline: 'true' },
    replace: { 'PATH/TO/fleet-manager-0.1.0.tgz': tarball },
  });
  t.true(blocks > 15);
});

test('npx runs the installed command', async (t) => {
  const { version } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8'));
  const { code, stdout } = await run(t, ['npx', '--no-install', 'fleet-manager', '--version']);
  t.is(code, 0);
  t.is(stdout.trim(), version);
});

const GREET = {
  'greet/index.js': `
    import { object, string } from 'yup';
    import { defineAction, FleetTransport } from 'fleet-manager/plugin';
    import { greeting } from './greeting.js';
    export default defineAction({
      name: 'greet', summary: 'Greets the machines of a cluster.', target: 'cluster', effect: 'read',
      parameters: object({ word: string().max(5).default('Hello').meta({ description: 'What to say.' }) }),
      result: string().required(),
      inject: { fleet: FleetTransport },
      async handle({ parameters: { word }, cluster, signal }, { fleet }) {
        return greeting(word, (await fleet.machines(cluster, { signal })).length);
      },
    });`,
  'greet/greeting.js': `
    import { number } from 'yup';
    import { ActionError } from 'fleet-manager/plugin';
    export function greeting(word, machines) {
      if (!number().positive().isValidSync(machines)) throw new ActionError('machine_not_found', 'nobody there');
      return word + ' to ' + machines;
    }`,
};

test('the installed service runs in the sandbox with a drop-in plugin, and replies', async (t) => {
  const service = start(t, ['serve'], { HTTP_PORT: '0', PLUGIN_PATHS: await folder(GREET) });
  const [, url = ''] = await service.printed(/^ {2}gateway +(http:\S+)$/m);
  await service.printed(/accepting requests/);
  const env = { HTTP_PORT: new URL(url).port };
  const [machines, greeted, refused] = await Promise.all([
    start(t, ['call', 'list_machines', '--cluster', 'sandbox'], env).ended,
    start(t, ['call', 'greet', '--cluster', 'sandbox'], env).ended,
    start(t, ['call', 'greet', '--cluster', 'sandbox', '--param', 'word=too long'], env).ended,
  ]);
  t.is(JSON.parse(machines.stdout).length, 3);
  t.is(greeted.stdout, '"Hello to 3"\n');
  t.is(refused.code, 2);
  t.regex(refused.stderr, /^invalid_parameters: word must be at most 5 characters/);
  service.kill('SIGTERM');
  t.is((await service.ended).code, 0);
});

for (const options of [[], ['--ts']])
  test(`a new action in a folder can be tested, started and called: ${options.join(' ') || 'JavaScript'}`, async (t) => {
    const directory = await emptyProject();
    const made = await start(t, ['new', 'action', 'drain_machine', ...options, '--dir', directory]).ended;
    t.is(made.code, 0, made.stderr);
    t.regex(made.stdout, /^ {2}npx fleet-manager call drain_machine /m);
    t.notRegex(made.stdout, /needs this package/);
    const tested = await run(t, ['npm', 'test'], join(directory, 'drain-machine'));
    t.is(tested.code, 0, tested.stdout);
    t.regex(tested.stdout, /^# pass 3$/m);
    if (!options.includes('--ts')) {
      const files = ['index.js', 'index.test.js'].map((file) => join('drain-machine', file));
      const checked = [
        '--noEmit',
        '--allowJs',
        '--checkJs',
        '--strict',
        '--module',
        'nodenext',
        '--types',
        'node',
      ];
      const { stdout: problems } = await run(
        t,
        ['npx', '--no-install', 'tsc', ...checked, ...files],
        directory,
      );
      t.is(problems, '');
    }
    await served(t, { PLUGIN_PATHS: directory, PLUGIN_DRAIN_MACHINE_IGNORED: 'load-*' });
    const { stdout } = await start(t, ['actions', 'drain_machine', '--types'], { PLUGIN_PATHS: directory })
      .ended;
    t.regex(stdout, /^ {4}drain_machine: \{$/m);
  });

for (const options of [['--package'], ['--package', '--ts']])
  test(`a new package of actions can be tested, packed, installed and served: ${options.join(' ')}`, async (t) => {
    const directory = await emptyProject();
    const made = await start(t, ['new', 'action', 'drain_machine', ...options, '--dir', directory]).ended;
    t.is(made.code, 0, made.stderr);
    const own = join(directory, 'drain-machine');
    const tested = await run(t, ['npm', 'test'], own);
    t.is(tested.code, 0, tested.stdout);
    t.regex(tested.stdout, /^# pass 3$/m);
    const { stdout } = await run(t, ['npm', 'pack', '--dry-run', '--json'], own);
    const [{ files }] = JSON.parse(stdout.slice(stdout.indexOf('[')));
    const paths: string[] = files.map(({ path }: { path: string }) => path);
    t.true(paths.some((path) => path.endsWith('drain-machine.js')));
    t.deepEqual(
      paths.filter((path) => path.includes('.test.')),
      [],
    );
    await npm(directory, 'install', '--offline', '--no-audit', '--no-fund', './drain-machine');
    await served(t, { PLUGINS: 'fleet-manager-drain-machine' }, directory);
  });

/** An empty folder in which the package and a TypeScript compiler are installed. */
async function emptyProject(): Promise<string> {
  const directory = await mkdtemp(join(installed, 'project-'));
  const modules = join(directory, 'node_modules');
  for (const name of ['typescript', '@types/node', '.bin/tsc']) {
    await mkdir(dirname(join(modules, name)), { recursive: true });
    await symlink(join(REPOSITORY, 'node_modules', name), join(modules, name));
  }
  return directory;
}

/** Starts the installed service in the sandbox with the new action, and calls it. */
async function served(
  t: ExecutionContext,
  env: Record<string, string>,
  directory = installed,
): Promise<void> {
  const program = join(installed, 'node_modules/.bin/fleet-manager');
  const service = startProgram(t, [program, 'serve'], { env: { ...env, HTTP_PORT: '0' }, directory });
  const [, url = ''] = await service.printed(/^ {2}gateway +(http:\S+)$/m);
  await service.printed(/accepting requests/);
  const args = ['call', 'drain_machine', '--cluster', 'sandbox', '--param', 'name=web@*'];
  const { stdout, stderr } = await start(t, args, { HTTP_PORT: new URL(url).port }).ended;
  t.deepEqual(JSON.parse(stdout || 'null'), { units: 7 }, stderr);
  service.kill('SIGTERM');
  await service.ended;
}

test("a folder that is added to the package's own plugins is served, also with a package.json of its own", async (t) => {
  const home = await copyOfPackage();
  const own = join(home, 'dist/plugins');
  for (const name of ['added', 'packaged']) {
    await mkdir(join(own, name));
    for (const [file, text] of Object.entries(GREET))
      await writeFile(join(own, name, file.replace('greet/', '')), text.replace("'greet'", `'${name}'`));
  }
  // Node would take its files for CommonJS.
  await writeFile(join(own, 'packaged/package.json'), '{"type": "commonjs"}');
  const cli = join(home, 'dist/src/cli.js');
  const { stdout, stderr } = await run(t, [process.execPath, cli, 'actions', '--json'], home);
  const names = JSON.parse(stdout || '[]').map(({ name }: { name: string }) => name);
  t.true(names.includes('added') && names.includes('packaged') && names.includes('list_units'), stderr);
});

/** A copy of the installed package that a test may change. @returns its folder */
async function copyOfPackage(): Promise<string> {
  const modules = join(await folder({}), 'node_modules');
  await mkdir(modules);
  for (const name of await readdir(join(installed, 'node_modules'))) {
    const from = join(installed, 'node_modules', name);
    if (name === 'fleet-manager') await cp(from, join(modules, name), { recursive: true });
    else await symlink(from, join(modules, name));
  }
  return join(modules, 'fleet-manager');
}

test('commands run from the bundle, and the same without its code cache or with one that is damaged', async (t) => {
  const home = await copyOfPackage();
  const src = join(home, 'dist/src');
  // A command that ran from the modules would fail.
  await rm(join(src, 'commands'), { recursive: true });
  const [cache = ''] = (await readdir(src)).filter((name) => name.endsWith('.cache'));
  const content = await readFile(join(src, cache));
  const actions = async () => run(t, [process.execPath, join(src, 'cli.js'), 'actions', '--json'], home);
  const usual = await actions();
  t.is(usual.code, 0, usual.stderr);
  t.true(usual.stdout.includes('"list_units"'));
  for (const damaged of [content.subarray(0, 50_000), Buffer.alloc(50_000, 'x'), Buffer.alloc(0)]) {
    await writeFile(join(src, cache), damaged);
    t.deepEqual(await actions(), usual);
  }
  await rm(join(src, cache));
  t.deepEqual(await actions(), usual);
});

test('the installed service serves a plugin with its own copies of yup and of the plugin module', async (t) => {
  const PLUGIN_PATHS = await folder({
    'own/index.js': `
      import { object, string } from './node_modules/yup/index.js';
      import { defineAction } from './node_modules/fleet-manager/dist/src/plugin.js';
      export default defineAction({
        name: 'own', summary: 'Has its own copies.', target: 'none', effect: 'read',
        parameters: object({ a: string().required().meta({ description: 'Anything.' }) }),
        result: string(),
        handle: async ({ parameters }) => parameters.a,
      });`,
  });
  for (const name of ['yup', 'property-expr', 'tiny-case', 'toposort', 'fleet-manager'])
    await cp(join(installed, 'node_modules', name), join(PLUGIN_PATHS, 'own/node_modules', name), {
      recursive: true,
    });
  const { code, stdout, stderr } = await start(t, ['actions', 'own', '--json'], { PLUGIN_PATHS }).ended;
  t.is(code, 0, stderr);
  t.like(JSON.parse(stdout), { name: 'own', parameters: { required: ['a'], additionalProperties: false } });
});

test('the installed service serves a package that is installed beside it, from any working directory', async (t) => {
  const beside = join(installed, 'node_modules/@acme/actions');
  await mkdir(beside, { recursive: true });
  t.teardown(() => rm(dirname(beside), { recursive: true }));
  const about = { name: '@acme/actions', version: '1.2.0', type: 'module', exports: './greet.js' };
  await writeFile(join(beside, 'package.json'), JSON.stringify(about));
  await writeFile(join(beside, 'greet.js'), GREET['greet/index.js']);
  await writeFile(join(beside, 'greeting.js'), GREET['greet/greeting.js']);
  const env = { PLUGINS: '@acme/actions', PATH: process.env.PATH ?? '' };
  const cli = join(installed, 'node_modules/fleet-manager/dist/src/cli.js');
  const elsewhere = { env, directory: await folder({}) };
  const { code, stdout, stderr } = await startProgram(
    t,
    [process.execPath, cli, 'actions', 'greet', '--json'],
    elsewhere,
  ).ended;
  t.is(code, 0, stderr);
  t.like(JSON.parse(stdout), { name: 'greet' });
});

test('the installed package reads a policy', async (t) => {
  const files = await folder({ 'policy.yaml': 'rules:\n- callers: [ci]\n  effects: [read]\n' });
  const env = { POLICY_FILE: join(files, 'policy.yaml') };
  const check = async (action: string) =>
    start(t, ['policy', 'check', '--caller', 'ci', '--action', action, '--cluster', 'a'], env).ended;
  t.like(await check('list_units'), {
    code: 0,
    stdout: 'allowed  by rule 1\nrules    rule 1\nunits    all\n',
  });
  t.is((await check('restart_unit')).code, 1);
});

test('the installed service ends when a plugin blocks it, and names the plugin', async (t) => {
  const PLUGIN_PATHS = await folder({ 'looping/index.js': 'for (;;);' });
  const { signal, stderr } = await start(t, ['serve'], { PLUGIN_PATHS, WATCHDOG_SECONDS: '5' }).ended;
  t.is(signal, 'SIGKILL', stderr);
  t.regex(stderr, /event loop blocked/);
  t.true(stderr.includes(`${PLUGIN_PATHS}/looping`), stderr);
});

test('client, plugin and testing can be imported from the package, and no internal module', async (t) => {
  const script = `
    import { FleetManagerClient, FleetManagerError } from 'fleet-manager/client';
    import { ActionError, defineAction, FleetTransport, unitName } from 'fleet-manager/plugin';
    const client = new FleetManagerClient({ urls: ['amqp://127.0.0.1:1'] });
    const code = await client.call('list_machines', { timeoutMs: 1, cluster: 'x' }).catch((error) => error instanceof FleetManagerError && error.code);
    await client.close();
    const behind = await Promise.all(
      ['fleet-manager', 'fleet-manager/dist/src/composition.js', 'fleet-manager/src/plugin'].map((name) =>
        import(name).then(() => 'imported', ({ code }) => code)),
    );
    console.log(JSON.stringify([code, typeof defineAction, String(FleetTransport), unitName().type, new ActionError('a', 'b').code, behind]));`;
  const { stdout, stderr } = await run(t, [process.execPath, '--input-type=module', '-e', script]);
  t.deepEqual(
    JSON.parse(stdout || '[]'),
    [
      'service_unavailable',
      'function',
      'Symbol(fleet-manager:FleetTransport)',
      'string',
      'a',
      ['ERR_PACKAGE_PATH_NOT_EXPORTED', 'ERR_PACKAGE_PATH_NOT_EXPORTED', 'ERR_PACKAGE_PATH_NOT_EXPORTED'],
    ],
    stderr,
  );
});

test('TypeScript knows the types of client, plugin and testing', async (t) => {
  const source = `
import { FleetManagerClient, FleetManagerError, type CallOptions } from 'fleet-manager/client';
import { type Action, ActionError, defineAction, FleetTransport, stringMap, unitName } from 'fleet-manager/plugin';
import { type OpenAction, openAction } from 'fleet-manager/testing';
import { array, number, object, string } from 'yup';

const options: CallOptions = { cluster: 'token', parameters: { name: 'web@*' }, timeoutMs: 1_000 };
export async function call(): Promise<unknown> {
  const client = new FleetManagerClient({ urls: ['amqp://localhost'] });
  try {
    return await client.call('list_units', options);
  } catch (error) {
    if (error instanceof FleetManagerError && error.fault === 'caller') throw new ActionError('invalid_name', error.message);
    throw error;
  } finally {
    await client.close();
  }
}

const action: Action = defineAction({
  name: 'find_unit', summary: 'Finds a unit.', target: 'cluster', effect: 'read',
  parameters: object({
    name: unitName().required().meta({ description: 'Its name.' }),
    times: number().integer().default(1).meta({ description: 'How often.' }),
  }),
  result: object({ states: array(string().required()).required(), labels: stringMap() }),
  inject: { fleet: FleetTransport },
  async handle({ parameters, cluster, signal, log }, { fleet }) {
    const name: string = parameters.name;
    const times: number = parameters.times;
    log.info('looking', { times });
    // @ts-expect-error there is no such parameter
    void parameters.nmae;
    const unit = await fleet.unit(cluster, name, { signal });
    return { states: unit?.currentState == null ? [] : [unit.currentState], labels: { name } };
  },
});
export default action;

export async function tried(): Promise<string[]> {
  const { run, sandbox, stop }: OpenAction = await openAction(action, { pageSize: 10, units: [] });
  const added: string[] = sandbox.cluster.addUnits(3);
  sandbox.cluster.fail({ kind: '503', times: 1 });
  // @ts-expect-error there is no such fault
  sandbox.cluster.fail({ kind: '418' });
  await run({ name: added[0] }).finally(stop);
  return sandbox.ssh === undefined ? [] : sandbox.ssh.commands.map(({ host }) => host);
}

defineAction({
  name: 'wrong', summary: 'Answers what it does not declare.', target: 'none', effect: 'read',
  parameters: object({}),
  result: object({ a: string().required() }),
  // @ts-expect-error the result lacks what the schema requires
  handle: async () => ({ b: 'x' }),
});
`;
  t.is(await compiled(t, { 'index.ts': source }), '');
});

test('the types that `actions --types` prints are those of the client, and a wrong parameter does not compile', async (t) => {
  const { stdout, code } = await start(t, ['actions', '--types'], { PLUGIN_PATHS: await folder(GREET) })
    .ended;
  t.is(code, 0);
  const calling = (parameters: string) => `
    import { FleetManagerClient } from 'fleet-manager/client';
    const client = new FleetManagerClient({ urls: ['amqp://localhost'] });
    export const greeting: string = await client.call('greet', { cluster: 'token', parameters: ${parameters} });
    export const machines: { id: string }[] = await client.call('list_machines', { cluster: 'token' });
    // @ts-expect-error nothing is known of it
    export const other: string = await client.call('other');`;
  t.is(await compiled(t, { 'index.ts': calling("{ word: 'Hi' }"), 'actions.d.ts': stdout }), '');
  for (const wrong of ['{ word: 5 }', "{ wrod: 'Hi' }"])
    t.regex(await compiled(t, { 'index.ts': calling(wrong), 'actions.d.ts': stdout }), /index\.ts\(4,/);
});

/** The compiler's output for files beside the installed package. */
async function compiled(t: ExecutionContext, files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(installed, 'typed-'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  await writeFile(join(directory, 'package.json'), '{"type": "module"}');
  const compilerOptions = {
    module: 'NodeNext',
    target: 'ES2022',
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: ['node'],
    typeRoots: [join(REPOSITORY, 'node_modules/@types')],
  };
  await writeFile(
    join(directory, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: Object.keys(files) }),
  );
  const tsc = join(REPOSITORY, 'node_modules/.bin/tsc');
  const { stdout, stderr } = await run(t, [tsc, '-p', directory, '--pretty', 'false']);
  return `${stdout}${stderr}`;
}
