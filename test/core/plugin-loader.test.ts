import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import { describeActions, OWN_PLUGINS } from '../../src/composition.js';
import { readConfiguration } from '../../src/settings/read-configuration.js';
import type { RequestLog } from '../../src/plugin.js';
import type { Catalogue } from '../../src/core/catalogue.js';
import { resolveHook } from '../../src/core/plugin-hooks.js';
import { type LoaderOptions, loadPlugins, PluginError } from '../../src/core/plugin-loader.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { actionRequest } from '../support/action-request.js';
import { inRepository } from '../support/repository.js';

const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));

const NONE = { host: {}, roots: [], packages: [], entries: {} };

/** The text of a plugin's entry file; `fields` replace those of a valid action. */
function entry(fields: Record<string, string> = {}, before = ''): string {
  const all = {
    name: "'greet'",
    summary: "'Greets.'",
    target: "'none'",
    effect: "'read'",
    parameters: "object({ name: string().required().meta({ description: 'Whom to greet.' }) })",
    result: 'string().required()',
    handle: 'async ({ parameters }) => `Hello ${parameters.name}`',
    ...fields,
  };
  const body = Object.entries(all)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}: ${value},`);
  return [
    "import { date, lazy, mixed, object, string } from 'yup';",
    "import { ActionError, defineAction, unitName } from 'fleet-manager/plugin';",
    before,
    'export default defineAction({',
    ...body,
    '});',
  ].join('\n');
}

/** A directory outside of the repository with these files, removed when the test ends. */
async function directory(t: ExecutionContext, files: Record<string, string>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'plugins of a test-'));
  t.teardown(() => rm(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
  return root;
}

async function load(directories: string[], options: Partial<LoaderOptions> = {}): Promise<Catalogue> {
  const resolve = () => ({});
  // A manual clock, because an import may take long on a busy machine.
  return loadPlugins({ directories, resolve, clock: new ManualClock(), ...options });
}

async function run(
  catalogue: Catalogue,
  name: string,
  parameters: unknown,
  log: RequestLog = logLines().log,
): Promise<unknown> {
  const action = catalogue.find(name);
  if (action === undefined) throw new Error(`no action ${name}`);
  return action.run(actionRequest({ parameters: action.check(parameters), cluster: undefined, log }));
}

function names(catalogue: Catalogue): string[] {
  return catalogue.describe().map(({ name }) => name);
}

test('a folder in JavaScript is served without an install, including its own modules', async (t) => {
  const root = await directory(t, {
    'greet/index.js': entry(
      { handle: 'async ({ parameters }) => greeting(parameters.name)' },
      "import { greeting } from './greeting.js';",
    ),
    'greet/greeting.js': [
      "import { string } from 'yup';",
      "import { ActionError } from 'fleet-manager/plugin';",
      'export function greeting(name) {',
      "  if (!string().max(5).isValidSync(name)) throw new ActionError('name_not_found', 'too long');",
      '  return `Hello ${name}`;',
      '}',
    ].join('\n'),
  });
  const catalogue = await load([root]);
  t.is(await run(catalogue, 'greet', { name: 'you' }), 'Hello you');
  await t.throwsAsync(run(catalogue, 'greet', { name: 'everyone' }), {
    instanceOf: ActionError,
    message: 'too long',
  });
});

test('a folder that has only TypeScript is refused by the built service, with what to do', async (t) => {
  const root = await directory(t, { 'greet/index.ts': entry() });
  await t.throwsAsync(load([root]), {
    message: `plugin ${join(root, 'greet')}: has only index.ts, but the built service loads JavaScript: compile it to index.js`,
  });
});

test('a plugin imports the same modules that the service runs on', async (t) => {
  const root = await directory(t, {
    'greet/index.js': entry({ handle: "async () => { throw new ActionError('x_not_found', 'none'); }" }),
  });
  const error = await t.throwsAsync(run(await load([root]), 'greet', { name: 'x' }));
  t.is(error?.constructor, ActionError);
});

test('a plugin with its own copies of yup and of the plugin module works', async (t) => {
  const root = await directory(t, {
    'greet/index.js': [
      "import { number, object, string } from './node_modules/yup/index.js';",
      "import { ActionError, defineAction, FleetTransport } from './own/plugin.js';",
      'export default defineAction({',
      "  name: 'greet', summary: 'Greets.', target: 'none', effect: 'read',",
      '  parameters: object({',
      "    name: string().required().meta({ description: 'Whom to greet.' }),",
      "    times: number().integer().default(2).meta({ description: 'How often.' }),",
      '  }),',
      '  result: string().required(),',
      '  inject: { fleet: FleetTransport },',
      '  async handle({ parameters: { name, times } }, { fleet }) {',
      "    if (name === 'nobody') throw new ActionError('name_not_found', 'no such name');",
      '    return `Hello ${name}! `.repeat(times) + fleet;',
      '  },',
      '});',
    ].join('\n'),
  });
  for (const name of ['yup', 'property-expr', 'tiny-case', 'toposort'])
    await cp(inRepository(`node_modules/${name}`), join(root, 'greet/node_modules', name), {
      recursive: true,
    });
  for (const name of ['plugin.js', 'api', 'lib'])
    await cp(join(SOURCES, name), join(root, 'greet/own', name), { recursive: true });
  const catalogue = await load([root], { resolve: (token) => token.description });
  t.is(await run(catalogue, 'greet', { name: 'you' }), 'Hello you! Hello you! fleet-manager:FleetTransport');
  const failure = await t.throwsAsync(run(catalogue, 'greet', { name: 'nobody' }));
  t.true(failure instanceof ActionError);
  t.not(failure?.constructor, ActionError);
  t.throws(() => catalogue.find('greet')?.check({ name: 3, zz: 1 }), { instanceOf: ActionError });
  t.like(catalogue.describe()[0]?.parameters, { properties: { times: { type: 'integer', default: 2 } } });
});

test('a file of a plugin is an ES module whatever Node takes it for, and a package that is bundled with it is not', async (t) => {
  const resolve = resolveHook({ ...NONE, roots: ['file:///plugins/'] });
  const resolved = (url: string) => resolve('./any.js', {}, () => ({ url, format: 'commonjs' }));
  for (const url of ['file:///plugins/greet/index.js', 'file:///plugins/greet/index.ts'])
    t.deepEqual(resolved(url), { url, format: 'module' });
  for (const url of [
    'file:///plugins/greet/data.json',
    'file:///plugins/greet/node_modules/yup/index.js',
    'file:///elsewhere/index.js',
  ])
    t.deepEqual(resolved(url), { url, format: 'commonjs' });
  // Plugins may be installed as a package themselves.
  const installed = resolveHook({ ...NONE, roots: ['file:///app/node_modules/plugins/'] });
  const own = { url: 'file:///app/node_modules/plugins/greet/index.js', format: 'commonjs' };
  t.deepEqual(await installed('./any.js', {}, () => own), { ...own, format: 'module' });
  const url = 'file:///plugins/greet/index.js';
  const later = resolve('./any.js', {}, async () => ({ url, format: 'commonjs' }));
  t.deepEqual(await later, { url, format: 'module' });
  // tsx adds to the URL of a file that it takes for CommonJS.
  for (const added of ['?tsx-commonjs-1', '%3Ftsx-commonjs-1'])
    t.deepEqual(resolved(`${url}${added}`), { url, format: 'module' });
  const whole = { url, format: 'commonjs', importAttributes: { type: 'x' } };
  t.deepEqual(await resolve('./any.js', {}, () => whole), { ...whole, format: 'module' });
});

test('a package that is bundled with a plugin keeps its own yup', async (t) => {
  const root = await directory(t, {
    'greet/index.js': entry({ handle: 'async () => version' }, "import { version } from 'uses-yup';"),
    'greet/node_modules/uses-yup/package.json': '{"type": "module", "main": "index.js"}',
    'greet/node_modules/uses-yup/index.js': "export { version } from 'yup';",
    'greet/node_modules/yup/package.json': '{"type": "module", "main": "index.js"}',
    'greet/node_modules/yup/index.js': "export const version = 'its own';",
  });
  t.is(await run(await load([root]), 'greet', { name: 'x' }), 'its own');
});

test('a folder that is a symbolic link is served', async (t) => {
  const elsewhere = await directory(t, { 'one/index.js': entry() });
  const root = await directory(t, {});
  await symlink(join(elsewhere, 'one'), join(root, 'linked'));
  t.is(await run(await load([root]), 'greet', { name: 'you' }), 'Hello you');
});

test('a directory that is a symbolic link is served', async (t) => {
  const elsewhere = await directory(t, { 'plugins/one/index.js': entry() });
  await symlink(join(elsewhere, 'plugins'), join(elsewhere, 'linked'));
  t.deepEqual(names(await load([join(elsewhere, 'linked')])), ['greet']);
});

test('files, links to files, dot-folders and node_modules among the plugins are ignored', async (t) => {
  const bad = "throw new Error('must not be loaded')";
  const root = await directory(t, {
    'greet/index.js': entry(),
    'index.js': bad,
    'README.md': '# Plugins',
    '.git/index.js': bad,
    'node_modules/index.js': bad,
    'node_modules/yup/index.js': bad,
  });
  await symlink(join(root, 'README.md'), join(root, 'LIESMICH.md'));
  t.deepEqual(names(await load([root])), ['greet']);
});

test("the service's own plugins and those of further directories are served together", async (t) => {
  const root = await directory(t, { 'greet/index.js': entry() });
  const found = names(await load([OWN_PLUGINS, root]));
  t.true(found.includes('greet'));
  t.true(found.includes('list_machines'));
  t.deepEqual(found, found.toSorted());
});

test('stops the start: a directory without a plugin folder', async (t) => {
  const root = await directory(t, { 'index.txt': '', '.git/index.js': '' });
  await t.throwsAsync(load([root]), {
    instanceOf: PluginError,
    message: `plugin ${root}: this directory has no plugins: a plugin is a folder with an index.js`,
  });
});

test('stops the start: a directory that is itself a plugin', async (t) => {
  for (const name of ['index.js', 'index.ts']) {
    const root = await directory(t, { [`greet/${name}`]: entry(), 'greet/lib/words.js': '' });
    await t.throwsAsync(load([join(root, 'greet')]), {
      instanceOf: PluginError,
      message: `plugin ${join(root, 'greet')}: is itself a plugin: name its parent directory instead`,
    });
  }
});

test('a directory that is listed twice, under one name or two, is served once', async (t) => {
  const root = await directory(t, { 'plugins/greet/index.js': entry() });
  const plugins = join(root, 'plugins');
  await symlink(plugins, join(root, 'linked'));
  t.deepEqual(names(await load([plugins, `${plugins}/`, join(root, 'linked')])), ['greet']);
});

test('the dependencies of an action are resolved once, when it loads', async (t) => {
  const root = await directory(t, {
    'greet/index.js': entry({
      inject: "{ clock: Symbol.for('fleet-manager:Clock') }",
      handle: 'async (request, { clock }) => clock',
    }),
  });
  const asked: symbol[] = [];
  const resolve = (token: symbol) => asked.push(token);
  const catalogue = await load([root], { resolve });
  t.is(await run(catalogue, 'greet', { name: 'x' }), 1);
  t.is(await run(catalogue, 'greet', { name: 'x' }), 1);
  t.deepEqual(asked, [Symbol.for('fleet-manager:Clock')]);
});

test('a result that does not match the declaration is sent anyway, and reported where results are checked', async (t) => {
  const root = await directory(t, {
    'greet/index.js': entry({
      result: "object({ word: string().required().meta({ description: 'A word.' }) })",
      handle: "async ({ parameters: { name } }) => (name === 'you' ? { word: name } : { word: 3, to: name })",
    }),
  });
  const wrong = { word: 3, to: 'us' };
  const checked = await load([root], { checkResults: true });
  const { log, lines } = logLines();
  t.deepEqual(await run(checked, 'greet', { name: 'you' }, log), { word: 'you' });
  t.deepEqual(lines, []);
  t.deepEqual(await run(checked, 'greet', { name: 'us' }, log), wrong);
  t.is(lines.length, 1);
  t.like(lines[0], { level: 'warn', message: 'result does not match its schema' });
  t.regex(String(lines[0]?.problems), /word must be a `string` type/);
  t.regex(String(lines[0]?.problems), /unspecified key.*: to/);
  const unchecked = await load([root]);
  t.deepEqual(await run(unchecked, 'greet', { name: 'us' }, log), wrong);
  t.is(lines.length, 1);
});

test('the service checks results everywhere except in production', async (t) => {
  const PLUGIN_PATHS = await directory(t, { 'greet/index.js': entry({ handle: 'async () => 3' }) });
  for (const [NODE_ENV, logged] of [
    ['production', 0],
    ['development', 1],
    ['staging', 1],
  ] as const) {
    const source = { env: { PLUGIN_PATHS, NODE_ENV }, directory: PLUGIN_PATHS };
    const { log, lines } = logLines();
    await run(await describeActions(readConfiguration(source)), 'greet', { name: 'us' }, log);
    t.is(lines.length, logged, NODE_ENV);
  }
});

test('READ_ONLY leaves out actions that make changes', async (t) => {
  const root = await directory(t, {
    'read/index.js': entry({ name: "'look'" }),
    'change/index.js': entry({ name: "'change'", effect: "'change'" }),
  });
  t.deepEqual(names(await load([root])), ['change', 'look']);
  t.deepEqual(names(await load([root], { readOnly: true })), ['look']);
  t.deepEqual(names(await load([root], { readOnly: true, only: ['change'] })), []);
});

test('ACTIONS names the only actions to serve', async (t) => {
  const root = await directory(t, {
    'a/index.js': entry({ name: "'act_a'" }),
    'b/index.js': entry({ name: "'act_b'" }),
    'c/index.js': entry({ name: "'act_c'" }),
  });
  const catalogue = await load([root], { only: ['act_c', 'act_a'] });
  t.deepEqual(names(catalogue), ['act_a', 'act_c']);
  t.is(catalogue.find('act_b'), undefined);
});

test('ACTIONS with an action that does not exist stops the start', async (t) => {
  const root = await directory(t, { 'a/index.js': entry({ name: "'act_a'" }) });
  await t.throwsAsync(load([root], { only: ['act_a', 'act_z'] }), {
    message: "ACTIONS names 'act_z', but the plugins declare only: act_a",
  });
});

const BROKEN: Record<string, [files: Record<string, string>, reason: RegExp]> = {
  'without an entry file': [{ 'README.md': '' }, /has no entry file index\.js/],
  'without a default export': [
    { 'index.js': 'export const action = {};' },
    /its entry file has no default export/,
  ],
  'whose default export is not made by defineAction': [
    { 'index.js': "export default { name: 'greet', handle() {} };" },
    /its default export was not made by defineAction of fleet-manager\/plugin/,
  ],
  'whose default export is nothing': [{ 'index.js': 'export default null;' }, /was not made by defineAction/],
  'that does not parse': [
    { 'index.js': '// A comment.\nexport default {' },
    /its import failed: .*\/broken\/index\.js:2\b/s,
  ],
  'one of whose own modules does not parse': [
    { 'index.js': "import './words.js';", 'words.js': 'const a = 1;\nconst b = ;' },
    /its import failed: .*\/broken\/words\.js:2\b/s,
  ],
  'that throws when it is imported': [
    { 'index.js': "\n\nthrow new Error('no licence');" },
    /its import failed: no licence \(\S+ of a test-\w+\/broken\/index\.js:3\)$/,
  ],
  'that fails in a module of another package': [
    { 'index.js': "import { string } from 'yup';\n\nstring().matches(/a/, 5).oneOf(3);" },
    /its import failed: .* \(.*\/broken\/index\.js:3\)$/,
  ],
  'that throws what is no error': [{ 'index.js': "throw 'no licence';" }, /its import failed: no licence$/],
  'that imports what is not there': [
    { 'index.js': "import 'no-such-package';" },
    /its import failed: Cannot find (package|module) 'no-such-package'/,
  ],
  'that imports a name that the plugin module does not export': [
    { 'index.js': "import { startService } from 'fleet-manager/plugin';" },
    /its import failed: .*startService.*\/broken\/index\.js:1\b/,
  ],
  'that throws a value that cannot be read': [
    { 'index.js': 'throw Object.create(null);' },
    /its import failed: \(a value that cannot be read\)/,
  ],
  'whose default export cannot be read': [
    { 'index.js': 'const { proxy, revoke } = Proxy.revocable({}, {}); export default proxy; revoke();' },
    /Cannot perform .* on a proxy that has been revoked/,
  ],
  'with a field that is mistyped': [
    { 'index.js': entry({ paramters: 'object()' }) },
    /: unknown field 'paramters': did you mean 'parameters'\?$/,
  ],
  'with a mistyped field instead of a required one': [
    { 'index.js': entry({ handle: '', handel: 'async () => 1' }) },
    /unknown field 'handel': did you mean 'handle'\?$/,
  ],
  'with an unknown field that resembles no known one': [
    { 'index.js': entry({ permissions: '[]' }) },
    /unknown field 'permissions': the fields are name, summary, .*, dispose$/,
  ],
  'without a name': [{ 'index.js': entry({ name: '' }) }, /its field 'name' must be snake_case/],
  'with a name in another case': [
    { 'index.js': entry({ name: "'listUnits'" }) },
    /its field 'name' must be snake_case/,
  ],
  'with a name that is too long': [
    { 'index.js': entry({ name: "'a'.repeat(65)" }) },
    /'name' must be .* at most 64/,
  ],
  'with a name that is not a string': [{ 'index.js': entry({ name: '3' }) }, /its field 'name'/],
  'without a summary': [{ 'index.js': entry({ summary: '' }) }, /its field 'summary' must be one sentence/],
  'with an empty summary': [
    { 'index.js': entry({ summary: "' '" }) },
    /its field 'summary' must be one sentence/,
  ],
  'without a target': [
    { 'index.js': entry({ target: '' }) },
    /its field 'target' must be 'cluster', 'optional' or 'none'/,
  ],
  'with an unknown target': [{ 'index.js': entry({ target: "'machine'" }) }, /its field 'target'/],
  'without an effect': [
    { 'index.js': entry({ effect: '' }) },
    /its field 'effect' must be 'read' or 'change'/,
  ],
  'with an unknown effect': [{ 'index.js': entry({ effect: "'write'" }) }, /its field 'effect'/],
  'with an unknown redelivery': [
    { 'index.js': entry({ redelivery: "'retry'" }) },
    /its field 'redelivery' must be 'run-again' or 'refuse'/,
  ],
  'with a value for coalesce that is neither true nor false': [
    { 'index.js': entry({ coalesce: "'yes'" }) },
    /its field 'coalesce' must be true or false/,
  ],
  'that is a change whose runs are shared': [
    { 'index.js': entry({ effect: "'change'", coalesce: 'true' }) },
    /its field 'coalesce' must be true or false, and true only of a read/,
  ],
  'without parameters': [
    { 'index.js': entry({ parameters: '' }) },
    /its field 'parameters' must be a yup object schema/,
  ],
  'whose parameters are a plain object': [
    { 'index.js': entry({ parameters: '{ name: string() }' }) },
    /its field 'parameters'/,
  ],
  'whose parameters are not an object schema': [
    { 'index.js': entry({ parameters: 'string()' }) },
    /its field 'parameters'/,
  ],
  'whose parameters are lazy': [
    { 'index.js': entry({ parameters: 'lazy(() => object())' }) },
    /its field 'parameters'/,
  ],
  'with a parameter without a description': [
    { 'index.js': entry({ parameters: 'object({ name: string() })' }) },
    /its field 'parameters': the field 'name' has no meta\(\{ description \}\)/,
  ],
  'with a parameter that cannot be described': [
    { 'index.js': entry({ parameters: "object({ at: date().meta({ description: 'When.' }) })" }) },
    /its field 'parameters': the field 'at' is of the type 'date'/,
  ],
  'with a lazy parameter': [
    { 'index.js': entry({ parameters: 'object({ at: lazy(() => string()) })' }) },
    /its field 'parameters': the field 'at' is a reference or lazy/,
  ],
  'without a result': [{ 'index.js': entry({ result: '' }) }, /its field 'result' must be a yup schema/],
  'with a result that cannot be described': [
    { 'index.js': entry({ result: 'mixed()' }) },
    /its field 'result': the schema accepts any value/,
  ],
  'with a lazy result': [
    { 'index.js': entry({ result: 'object({ at: lazy(() => string()) })' }) },
    /its field 'result': the field 'at' is a reference or lazy/,
  ],
  'with a time limit above the maximum': [
    { 'index.js': entry({ timeoutMs: '300_001' }) },
    /its field 'timeoutMs' must be a whole number of milliseconds, at most 300000/,
  ],
  'with a time limit of nothing': [{ 'index.js': entry({ timeoutMs: '0' }) }, /its field 'timeoutMs'/],
  'with a time limit that is no whole number': [
    { 'index.js': entry({ timeoutMs: '1.5' }) },
    /its field 'timeoutMs'/,
  ],
  'with a time limit as text': [{ 'index.js': entry({ timeoutMs: "'5s'" }) }, /its field 'timeoutMs'/],
  'whose inject is no record': [
    { 'index.js': entry({ inject: "'fleet'" }) },
    /its field 'inject' must be a record of tokens/,
  ],
  'that injects a value that is not a token': [
    { 'index.js': entry({ inject: "{ fleet: 'FleetTransport' }" }) },
    /its field 'inject.fleet' must be a token: FleetTransport, EtcdResolver, RemoteShell, Clusters, Clock or Actions /,
  ],
  'whose version of the contract is no number': [
    { 'index.js': entry({ contract: "'1'" }) },
    /its field 'contract' must be a whole number, at least 1/,
  ],
  'whose version of the contract is nothing': [
    { 'index.js': entry({ contract: '0' }) },
    /its field 'contract' must be a whole number, at least 1/,
  ],
  'whose version of the contract is a fraction': [
    { 'index.js': entry({ contract: '1.5' }) },
    /its field 'contract' must be a whole number, at least 1/,
  ],
  'without handle': [{ 'index.js': entry({ handle: '' }) }, /its field 'handle' must be a function/],
  'whose handle is no function': [
    { 'index.js': entry({ handle: "'x'" }) },
    /its field 'handle' must be a function/,
  ],
  'whose dispose is no function': [
    { 'index.js': entry({ dispose: 'true' }) },
    /its field 'dispose' must be a function/,
  ],
};

for (const [what, [files, reason]] of Object.entries(BROKEN)) {
  test(`stops the start: a plugin ${what}`, async (t) => {
    const inFolder = Object.fromEntries(
      Object.entries(files).map(([name, text]) => [`broken/${name}`, text]),
    );
    const root = await directory(t, { 'greet/index.js': entry({ name: "'good'" }), ...inFolder });
    const error = await t.throwsAsync(load([root]), { instanceOf: PluginError });
    t.true(error?.message.startsWith(`plugin ${join(root, 'broken')}: `), error?.message);
    t.regex(error?.message ?? '', reason);
  });
}

test('an import error keeps the original error as its cause', async (t) => {
  const root = await directory(t, { 'broken/index.js': "throw new RangeError('no licence');" });
  const error = await t.throwsAsync(load([root]), { instanceOf: PluginError });
  t.true(error?.cause instanceof RangeError);
});

test('stops the start: a token that no part of the service uses', async (t) => {
  const root = await directory(t, {
    'broken/index.js': entry({ inject: "{ part: Symbol.for('fleet-manager:Part') }" }),
  });
  const resolve = (token: symbol) => {
    throw new Error(`there is no part ${String(token)}`);
  };
  const error = await t.throwsAsync(load([root], { resolve }), {
    instanceOf: PluginError,
    message: `plugin ${join(root, 'broken')}: its field 'inject.part': there is no part Symbol(fleet-manager:Part)`,
  });
  t.regex(String(error?.cause), /there is no part/);
});

test('stops the start: two actions with the same name, in one directory or in two', async (t) => {
  const one = await directory(t, { 'a/index.js': entry(), 'b/index.js': entry() });
  await t.throwsAsync(load([one]), {
    instanceOf: PluginError,
    message: `plugin ${join(one, 'b')}: declares the action 'greet', which ${join(one, 'a')} already declares`,
  });
  const two = await directory(t, { 'machines/index.js': entry({ name: "'list_machines'" }) });
  await t.throwsAsync(load([OWN_PLUGINS, two]), {
    message: `plugin ${join(two, 'machines')}: declares the action 'list_machines', which ${join(OWN_PLUGINS, 'list-machines')} already declares`,
  });
});

test('loads the plugins one after the other, and tells the folder that is being loaded', async (t) => {
  const told: string[] = [];
  Reflect.set(globalThis, 'toldByTest', told);
  t.teardown(() => Reflect.deleteProperty(globalThis, 'toldByTest'));
  const loading = (folder: string) => ({
    began: () => void told.push(`${basename(folder)} began`),
    ended: () => void told.push(`${basename(folder)} ended`),
  });
  const action = () => ({ began: () => {}, ended: () => {} });
  const root = await directory(t, {
    'broken/index.js': `throw new Error('broken');`,
    'greet/index.js': entry(
      {},
      "await new Promise((done) => setTimeout(done, 1)); globalThis.toldByTest.push('greet runs');",
    ),
  });
  await t.throwsAsync(load([root], { watch: { loading, action } }), { instanceOf: PluginError });
  t.deepEqual(told, ['broken began', 'broken ended', 'greet began', 'greet runs', 'greet ended']);
});

for (const [what, importTimeoutMs, within] of [
  ['the configured time', 5_000, 5_000],
  ['half a minute where nothing else is configured', undefined, 30_000],
] as const)
  test.serial(`stops the start: an import that does not settle within ${what}`, async (t) => {
    const begun = () => Reflect.get(globalThis, 'importsBegunByTest');
    t.teardown(() => Reflect.deleteProperty(globalThis, 'importsBegunByTest'));
    const begins = 'globalThis.importsBegunByTest = 1 + (globalThis.importsBegunByTest ?? 0);';
    const root = await directory(t, {
      'broken/index.js': `${begins} await new Promise(() => {});`,
      'greet/index.js': entry(),
    });
    const clock = new ManualClock();
    const loading = load([root], { clock, importTimeoutMs });
    const refused = t.throwsAsync(loading, {
      instanceOf: PluginError,
      message: `plugin ${join(root, 'broken')}: its import did not finish within ${within} ms: check for an await at the top level`,
    });
    while (begun() !== 1 || clock.pending !== 1) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(within);
    await refused;
  });

test('stops the start: a directory that does not exist', async (t) => {
  const root = join(await directory(t, {}), 'none');
  const error = await t.throwsAsync(load([root]), { instanceOf: PluginError });
  t.is(error?.message, `plugin ${root}: this plugin directory cannot be read`);
  t.like(error?.cause, { code: 'ENOENT' });
});

test('stops the start: a symbolic link that leads nowhere', async (t) => {
  const root = await directory(t, {});
  await symlink(join(root, 'none'), join(root, 'linked'));
  await t.throwsAsync(load([root]), {
    instanceOf: PluginError,
    message: `plugin ${join(root, 'linked')}: cannot be read`,
  });
});

test('all plugins that cannot be served are listed together, in alphabetical order, one a line', async (t) => {
  const root = await directory(t, {
    'one/f/index.js': entry(),
    'one/e/index.js': '',
    'one/d/index.js': "throw new RangeError('no licence');",
    'one/c/index.js': entry(),
    'one/b/README.md': '',
    'two/greet/index.js': entry({ name: "'act'" }),
  });
  await symlink(join(root, 'none'), join(root, 'one/a'));
  const one = join(root, 'one');
  const error = await t.throwsAsync(load([join(root, 'zero'), one, join(root, 'two')]), {
    instanceOf: PluginError,
  });
  const expected = [
    `plugin ${join(one, 'a')}: cannot be read`,
    `plugin ${join(one, 'b')}: has no entry file index.js`,
    `plugin ${join(one, 'd')}: its import failed: no licence (${join(one, 'd/index.js')}:1)`,
    `plugin ${join(one, 'e')}: its entry file has no default export: export the value that defineAction returns`,
    `plugin ${join(one, 'f')}: declares the action 'greet', which ${join(one, 'c')} already declares`,
    `plugin ${join(root, 'zero')}: this plugin directory cannot be read`,
  ];
  t.deepEqual(error?.problems, expected);
  t.is(error?.message, expected.join('\n'));
  const causes = error?.cause instanceof AggregateError ? error.cause.errors : [];
  t.is(causes.length, expected.length);
  t.true(causes[2]?.cause instanceof RangeError);
});

test('a plugin for another version of the contract is refused, with what to do', async (t) => {
  const root = await directory(t, { 'newer/index.js': entry({ contract: '2' }) });
  await t.throwsAsync(load([root]), {
    message: `plugin ${join(root, 'newer')}: was written for version 2 of the plugin contract, but this service has version 1: update the service, or use a release of the plugin for version 1`,
  });
});

test('a plugin whose own copy of defineAction has another version is refused, whatever it declares', async (t) => {
  for (const contract of ['', 'contract: 1,']) {
    const root = await directory(t, {
      'other/index.js': [
        "import { object, string } from 'yup';",
        "import { defineAction } from './own/plugin.js';",
        'export default defineAction({',
        "  name: 'greet', summary: 'Greets.', target: 'none', effect: 'read',",
        `  parameters: object(), result: string(), ${contract} permissions: [], handle: async () => '',`,
        '});',
      ].join('\n'),
    });
    for (const name of ['plugin.js', 'api', 'lib'])
      await cp(join(SOURCES, name), join(root, 'other/own', name), { recursive: true });
    const source = join(root, 'other/own/api/action.js');
    const text = await readFile(source, 'utf8');
    const changed = text.replace('CONTRACT_VERSION = 1', 'CONTRACT_VERSION = 2');
    t.not(changed, text);
    await writeFile(source, changed);
    await t.throwsAsync(load([root]), {
      message: `plugin ${join(root, 'other')}: was written for version 2 of the plugin contract, but this service has version 1: update the service, or use a release of the plugin for version 1`,
    });
  }
});

test("a plugin that declares no contract version, or the service's version, is served", async (t) => {
  const root = await directory(t, {
    'a/index.js': entry({ name: "'act_a'" }),
    'b/index.js': entry({ name: "'act_b'", contract: '1' }),
    'c/index.js': entry({ name: "'act_c'", contract: 'undefined' }),
  });
  t.deepEqual(names(await load([root])), ['act_a', 'act_b', 'act_c']);
});

test('every action is disposed of when the service stops, even if one fails and another does not end', async (t) => {
  const root = await directory(t, {
    'a/index.js': entry({ name: "'act_a'", dispose: "() => { throw new Error('stuck'); }" }),
    'b/index.js': entry({ name: "'act_b'", dispose: 'async () => { globalThis.disposedByTest = true; }' }),
    'c/index.js': entry({ name: "'act_c'" }),
    'd/index.js': entry({ name: "'act_d'", dispose: '() => new Promise(() => {})' }),
  });
  const catalogue = await load([root]);
  const clock = new ManualClock();
  t.teardown(() => Reflect.deleteProperty(globalThis, 'disposedByTest'));
  const disposed = t.throwsAsync(catalogue.dispose(1_000, clock), { instanceOf: AggregateError });
  // Lets the others end before the time is over.
  await new Promise(setImmediate);
  clock.advance(1_000);
  t.deepEqual(
    (await disposed)?.errors.map(({ message }: Error) => message),
    ['the action act_a failed to clean up', 'the action act_d has not cleaned up within 1000 ms'],
  );
  t.true(Reflect.get(globalThis, 'disposedByTest'));
});

test('an action is described with its defaults filled in', async (t) => {
  const root = await directory(t, {
    'a/index.js': entry({ name: "'look'" }),
    'b/index.js': entry({ name: "'change'", effect: "'change'", timeoutMs: '5_000' }),
    'c/index.js': entry({ name: "'change_again'", effect: "'change'", redelivery: "'run-again'" }),
  });
  const described = (await load([root])).describe();
  t.deepEqual(
    described.map(({ name, redelivery, timeout_ms: timeout }) => [name, redelivery, timeout]),
    [
      ['change', 'refuse', 5_000],
      ['change_again', 'run-again', 300_000],
      ['look', 'run-again', 300_000],
    ],
  );
});
