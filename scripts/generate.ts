/**
 * Writes what is made of other sources: from what the plugins declare, the types of the actions for users of `fleet-manager/client`,
 * the tables and pages of the actions, and the AsyncAPI document of the queue; from the sources of `fleet-manager/plugin`, the tables and the page of what it exports;
 * from the command line, the sections of docs/commands.md.
 *
 * Usage: npm run generate [-- OPTION...]
 *   --check      writes nothing; fails when a file is out of date
 *   --root DIR   the folder of the files, instead of this repository
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { actionsPage, parameterTable, resultTable, table } from '../src/commands/action-docs.js';
import { actionMembers } from '../src/commands/client-types.js';
import { fieldNames } from '../src/commands/schema-text.js';
import { describeActions, OWN_PLUGINS } from '../src/composition.js';
import type { ActionDescription } from '../src/core/action-description.js';
import { asyncApiDocument } from '../src/rpc/asyncapi/document.js';
import { readConfiguration } from '../src/settings/read-configuration.js';
import { commandSections } from './command-pages.js';
import { withBlock } from './generated-block.js';
import { exportsOf } from './plugin-api.js';
import { apiPage, portTable } from './plugin-api-docs.js';

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url));
const BIOME = join(REPOSITORY, 'node_modules/.bin/biome');
const TYPES = 'src/client/action-types.ts';

function typesOf(actions: readonly ActionDescription[]): string {
  const reads = actions.filter(({ effect }) => effect === 'read').map(({ name }) => `'${name}'`);
  return formatted(
    TYPES,
    `// Generated from what the plugins declare, by \`npm run generate\`. Do not edit.

/** The parameters and results of the actions that come with the service. */
export interface ServiceActions { ${actionMembers(actions)} }

/** The names of the actions that do not change the cluster. */
export const KNOWN_READS: ReadonlySet<string> = new Set<keyof ServiceActions>([${reads.join(', ')}]);
`,
  );
}

/** As `npm run format` leaves the file. */
function formatted(path: string, source: string): string {
  const options = ['format', `--stdin-file-path=${join(REPOSITORY, path)}`];
  return execFileSync(BIOME, options, { cwd: REPOSITORY, input: source, encoding: 'utf8' });
}

/** The folder of each action of the service. */
async function foldersOf(actions: readonly ActionDescription[]): Promise<Map<string, ActionDescription>> {
  const folders = new Map<string, ActionDescription>();
  for (const folder of readdirSync(OWN_PLUGINS)) {
    const { default: declared } = await import(join(OWN_PLUGINS, folder, 'index.ts'));
    const action = actions.find(({ name }) => name === declared.name);
    if (action !== undefined) folders.set(folder, action);
  }
  return folders;
}

const { values } = parseArgs({
  options: { check: { type: 'boolean', default: false }, root: { type: 'string', default: REPOSITORY } },
});
// Nothing is read from the environment: READ_ONLY or ACTIONS would leave actions out.
const settings = readConfiguration({ env: {}, directory: '/nonexistent' });
const actions = (await describeActions(settings)).describe();
const read = (path: string) => readFileSync(join(values.root, path), 'utf8');
const files = new Map<string, string>([
  [TYPES, typesOf(actions)],
  [
    'docs/actions.md',
    `<!-- Generated from what the plugins declare, by \`npm run generate\`. Do not edit. -->\n\n${actionsPage(actions)}`,
  ],
]);
files.set(
  'schemas/asyncapi.json',
  `${JSON.stringify(asyncApiDocument({ actions, queue: settings.rpc.queue }), null, 2)}\n`,
);
const folders = await foldersOf(actions);
const rows = [...folders]
  .toSorted(([, a], [, b]) => (a.name < b.name ? -1 : 1))
  .map(([folder, { name, effect, parameters }]) => [
    `[\`${name}\`](plugins/${folder}/README.md)`,
    effect,
    fieldNames(parameters)
      .map((each) => `\`${each}\``)
      .join(', '),
  ]);
files.set(
  'README.md',
  withBlock(read('README.md'), 'actions', table(['action', 'effect', 'parameters'], rows)),
);
for (const [folder, action] of folders) {
  const path = `plugins/${folder}/README.md`;
  const page = withBlock(read(path), 'parameters', parameterTable(action));
  files.set(path, formatted(path, withBlock(page, 'result', resultTable(action))));
}

const api = exportsOf(join(REPOSITORY, 'src/plugin.ts'));
files.set('CONTRIBUTING.md', withBlock(read('CONTRIBUTING.md'), 'ports', portTable(api)));
files.set(
  'docs/plugin-api.md',
  `<!-- Generated from the sources of fleet-manager/plugin, by \`npm run generate\`. Do not edit. -->\n\n${apiPage(api)}`,
);
files.set('docs/commands.md', withBlock(read('docs/commands.md'), 'commands', commandSections()));

for (const [path, text] of files) {
  const file = join(values.root, path);
  if (!values.check) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write(`${file} is out of date: run \`npm run generate\`\n`);
    process.exitCode = 1;
  }
}
