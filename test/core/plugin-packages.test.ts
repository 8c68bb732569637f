import { cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ActionError, type RequestLog } from '../../src/plugin.js';
import type { Catalogue } from '../../src/core/catalogue.js';
import { resolveHook } from '../../src/core/plugin-hooks.js';
import { type LoaderOptions, loadPlugins, PluginError } from '../../src/core/plugin-loader.js';
import { actionRequest } from '../support/action-request.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { inRepository } from '../support/repository.js';

const IMPORTS = `
  import { object, string } from 'yup';
  import { ActionError, defineAction } from 'fleet-manager/plugin';`;
const REQUIRES = `
  const { object, string } = require('yup');
  const { ActionError, defineAction } = require('fleet-manager/plugin');`;

/** An action that returns its parameter `word`, and fails when it has none. */
function action(name: string): string {
  return `defineAction({
    name: '${name}', summary: 'Echoes.', target: 'none', effect: 'read',
    parameters: object({ word: string().meta({ description: 'A word.' }) }),
    result: string().required(),
    handle: async ({ parameters: { word } }) => {
      if (word === undefined) throw new ActionError('word_not_found', 'no word');
      return word;
    },
  })`;
}

/** A folder outside of the repository with these files, removed when the test ends. */
async function folder(t: ExecutionContext, files: Record<string, string>): Promise<string> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'packages of a test-')));
  t.teardown(() => rm(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
  return root;
}

/** The files of an installed package; `main` is the text of its main.js. */
function installed(
  name: string,
  main: string,
  { fields = {}, within = '' }: { fields?: object; within?: string } = {},
): Record<string, string> {
  const at = join(within, 'node_modules', name);
  const about = { name, version: '1.2.0', type: 'module', main: './main.js', ...fields };
  return { [join(at, 'package.json')]: JSON.stringify(about), [join(at, 'main.js')]: main };
}

async function load(
  packages: string[],
  from: string | string[],
  options: Partial<LoaderOptions> = {},
): Promise<Catalogue> {
  return loadPlugins({
    directories: [],
    packages,
    packagesFrom: [from].flat(),
    resolve: () => ({}),
    // A manual clock, because an import may take long on a busy machine.
    clock: new ManualClock(),
    ...options,
  });
}

async function run(catalogue: Catalogue, name: string, parameters: unknown = {}): Promise<unknown> {
  const found = catalogue.find(name);
  if (found === undefined) throw new Error(`no action ${name}`);
  const log: RequestLog = logLines().log;
  return found.run(actionRequest({ parameters: found.check(parameters), cluster: undefined, log }));
}

function names(catalogue: Catalogue): string[] {
  return catalogue.describe().map(({ name }) => name);
}

const ITEM = 'was not made by defineAction of fleet-manager/plugin';

test('a package exports one action, or a list of any number', async (t) => {
  const root = await folder(t, {
    ...installed('one-action', `${IMPORTS} export default ${action('one')};`),
    ...installed('@acme/actions', `${IMPORTS} export default [${action('two')}, ${action('three')}];`),
  });
  const catalogue = await load(['one-action', '@acme/actions'], root);
  t.deepEqual(names(catalogue), ['one', 'three', 'two']);
  t.is(await run(catalogue, 'three', { word: 'hello' }), 'hello');
  t.deepEqual(catalogue.packages, ['one-action@1.2.0', '@acme/actions@1.2.0']);
});

for (const [what, main, fields] of [
  ['of ES modules', `${IMPORTS} export default [${action('act')}];`, {}],
  [
    'that can only be imported',
    `${IMPORTS} export default ${action('act')};`,
    { main: undefined, exports: { '.': { import: './main.js' } } },
  ],
  ['of CommonJS modules', `${REQUIRES} module.exports = [${action('act')}];`, { type: 'commonjs' }],
  [
    'whose ES modules a compiler has turned into CommonJS',
    `Object.defineProperty(exports, '__esModule', { value: true });
     ${REQUIRES} exports.default = [${action('act')}];`,
    { type: undefined },
  ],
] as const)
  test(`a package ${what} gets fleet-manager/plugin and yup of the service, and installs none`, async (t) => {
    const root = await folder(t, installed('@acme/actions', main, { fields }));
    const catalogue = await load(['@acme/actions'], root);
    t.is(await run(catalogue, 'act', { word: 'hello' }), 'hello');
    const error = await t.throwsAsync(run(catalogue, 'act'));
    t.is(error?.constructor, ActionError);
  });

test('a CommonJS package requires its own modules and packages as usual', async (t) => {
  const root = await folder(t, {
    ...installed(
      'actions',
      `${REQUIRES} const words = require('./words.js'); module.exports = ${action('act').replace('return word', 'return words(word)')};`,
      { fields: { type: 'commonjs' } },
    ),
    'node_modules/actions/words.js': `
      const own = require('yup'), data = require('./data.json'), shout = require('shouts');
      module.exports = (word) => [word, typeof own.string, data.a, shout.yup].join();`,
    'node_modules/actions/data.json': '{"a": 1}',
    'node_modules/shouts/package.json': '{}',
    'node_modules/shouts/index.js': "exports.yup = require('yup').version;",
    'node_modules/shouts/node_modules/yup/index.js': "exports.version = 'its own';",
  });
  t.is(await run(await load(['actions'], root), 'act', { word: 'a' }), 'a,function,1,its own');
});

test('a package that has its own copy of fleet-manager still gets that of the service', async (t) => {
  const root = await folder(t, {
    ...installed('actions', `${IMPORTS} export default ${action('act')};`),
    ...installed('fleet-manager', 'throw new Error("the copy");', {
      within: 'node_modules/actions',
      fields: { exports: { './plugin': './main.js' } },
    }),
    ...installed('yup', 'throw new Error("the copy");', { within: 'node_modules/actions' }),
  });
  t.is(await run(await load(['actions'], root), 'act', { word: 'a' }), 'a');
});

test('a package that is a symbolic link, as by npm link, gets the modules of the service', async (t) => {
  const elsewhere = await folder(t, installed('x', `${IMPORTS} export default ${action('act')};`));
  const root = await folder(t, { 'node_modules/@acme/README.md': '' });
  await symlink(join(elsewhere, 'node_modules/x'), join(root, 'node_modules/@acme/actions'));
  const catalogue = await load(['@acme/actions'], root);
  t.is(await run(catalogue, 'act', { word: 'a' }), 'a');
});

test('a package is found from the first folder, in a folder above it, or else from the next folder', async (t) => {
  const source = (name: string) => `${IMPORTS} export default ${action(name)};`;
  const root = await folder(t, {
    'app/deep/file.txt': '',
    ...installed('near', source('near'), { within: 'app' }),
    ...installed('both', source('first'), { within: 'app' }),
    ...installed('both', source('second'), { within: 'global' }),
    ...installed('beside', source('beside'), { within: 'global' }),
  });
  const from = [join(root, 'app/deep'), join(root, 'global/node_modules/fleet-manager/dist')];
  t.deepEqual(names(await load(['near', 'both', 'beside'], from)), ['beside', 'first', 'near']);
});

test('a package that is named twice is loaded once', async (t) => {
  const root = await folder(t, installed('actions', `${IMPORTS} export default ${action('act')};`));
  t.deepEqual(names(await load(['actions', 'actions'], root)), ['act']);
});

const BROKEN: Record<string, [main: string, reason: RegExp, fields?: object]> = {
  'without a default export': [
    'export const a = 1;',
    /^package broken: has no default export: export the value that defineAction returns, or a list of such values$/,
  ],
  'whose default export is something else': [
    'export default {};',
    new RegExp(`: its default export ${ITEM}$`),
  ],
  'whose default export is an empty list': [
    'export default [];',
    /: its default export is an empty list: export /,
  ],
  'of which one item is no action': [
    `${IMPORTS} export default [${action('act')}, { name: 'other' }];`,
    new RegExp(`^package broken: item 1 of its default export ${ITEM}$`),
  ],
  'of which an action has a wrong field': [
    `${IMPORTS} export default [${action('Act')}];`,
    /^package broken: item 0 of its default export: its field 'name' must be snake_case/,
  ],
  'with two actions of one name': [
    `${IMPORTS} export default [${action('act')}, ${action('act')}];`,
    /^package broken: declares the action 'act', which package broken already declares$/,
  ],
  'that throws when it is imported': [
    "\n\nthrow new Error('no licence');",
    /^package broken: its import failed: no licence \(\S+ of a test-\w+\/node_modules\/broken\/main\.js:3\)$/,
  ],
  'whose main file is missing': [
    '',
    /^package broken: its import failed: Cannot find .*none\.js/,
    { main: './none.js' },
  ],
  'that exports no main entry': [
    '',
    /: its import failed: No "exports" main defined in /,
    { exports: { './x': './main.js' } },
  ],
};

for (const [what, [main, reason, fields = {}]] of Object.entries(BROKEN))
  test(`stops the start: a package ${what}`, async (t) => {
    const root = await folder(t, {
      ...installed('broken', main, { fields }),
      ...installed('good', `${IMPORTS} export default ${action('good')};`),
    });
    const error = await t.throwsAsync(load(['good', 'broken'], root), { instanceOf: PluginError });
    t.regex(error?.message ?? '', reason);
  });

test('stops the start: all wrong items of a list are told, with those of other plugins', async (t) => {
  const root = await folder(t, {
    ...installed('broken', `${IMPORTS} export default [3, ${action('act')}, ${action('Act')}];`),
    'plugins/none/README.md': '',
  });
  const plugins = join(root, 'plugins');
  const error = await t.throwsAsync(load(['broken'], root, { directories: [plugins] }), {
    instanceOf: PluginError,
  });
  t.is(error?.problems.length, 3);
  t.like(error?.problems, [`package broken: item 0 of its default export ${ITEM}`]);
  t.is(error?.problems[2], `plugin ${plugins}/none: has no entry file index.js`);
});

test('stops the start: a package that is not installed, with the places where it was looked for', async (t) => {
  const root = await folder(t, { 'a/file.txt': '', 'b/node_modules/@acme/actions': 'a file' });
  const [a, b] = [join(root, 'a'), join(root, 'b')];
  await t.throwsAsync(load(['@acme/actions'], [a, b]), {
    instanceOf: PluginError,
    message: `package @acme/actions: is not installed: there is no node_modules/@acme/actions in ${a} or a folder above it, nor in ${b} or a folder above it`,
  });
});

test('files of a package are what Node takes them for, also in a directory of plugins', (t) => {
  const roots = ['file:///plugins/'];
  const resolve = resolveHook({ host: {}, entries: {}, roots, packages: ['file:///plugins/linked/'] });
  const own = { url: 'file:///plugins/linked/index.js', format: 'commonjs' };
  t.deepEqual(
    resolve('./index.js', {}, () => own),
    own,
  );
});

test('a copy of fleet-manager in a folder above is not what a package gets', async (t) => {
  const root = await folder(t, {
    ...installed('actions', `${IMPORTS} export default ${action('act')};`),
    'node_modules/fleet-manager/package.json': JSON.stringify({ exports: { './plugin': './none.js' } }),
  });
  await cp(inRepository('node_modules/yup'), join(root, 'node_modules/yup'), { recursive: true });
  t.is(await run(await load(['actions'], root), 'act', { word: 'a' }), 'a');
});
