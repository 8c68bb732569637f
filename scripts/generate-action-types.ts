/**
 * Writes the types of the actions for users of `fleet-manager/client`, from what the plugins declare, and the AsyncAPI document of
 * the queue.
 *
 * Usage: npm run generate [-- OPTION...]
 *   --check              writes nothing; fails when the file is out of date
 *   --plugins DIRECTORY  adds the actions of this directory of plugins, as PLUGIN_PATHS does; may be repeated
 *   --output FILE        the file of the types, and nothing else; src/client/action-types.ts by default
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeActions } from '../src/composition.js';
import type { ActionDescription } from '../src/core/action-description.js';
import { readConfiguration } from '../src/settings/read-configuration.js';
import { asyncApiDocument } from '../src/rpc/asyncapi/document.js';
import { docComment, typeOfSchema } from './schema-type.js';

const COMMITTED = fileURLToPath(new URL('../src/client/action-types.ts', import.meta.url));
const ASYNC_API = fileURLToPath(new URL('../schemas/asyncapi.json', import.meta.url));
const BIOME = fileURLToPath(new URL('../node_modules/.bin/biome', import.meta.url));

function sourceOf(actions: readonly ActionDescription[]): string {
  const members = actions.map(
    ({ name, summary, parameters, result }) =>
      `${docComment(summary)}${name}: { parameters: ${typeOfSchema(parameters)}; ${docComment(result.description)} result: ${typeOfSchema(result)} };`,
  );
  const reads = actions.filter(({ effect }) => effect === 'read').map(({ name }) => `'${name}'`);
  return `// Generated from what the plugins declare, by \`npm run generate\`. Do not edit.

/** The parameters and results of the actions that come with the service. */
export interface KnownActions { ${members.join('\n')} }

/** The names of the actions that do not change the cluster. */
export const KNOWN_READS: ReadonlySet<string> = new Set<keyof KnownActions>([${reads.join(', ')}]);
`;
}

function formatted(source: string): string {
  const options = ['format', `--stdin-file-path=${COMMITTED}`];
  return execFileSync(BIOME, options, { input: source, encoding: 'utf8' });
}

const { values } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    plugins: { type: 'string', multiple: true, default: [] },
    output: { type: 'string', default: COMMITTED },
  },
});
// Nothing else is read from the environment: READ_ONLY or ACTIONS would leave actions out.
const env = { PLUGIN_PATHS: values.plugins.join(':') };
const { plugins, environment, watchdogSeconds } = readConfiguration({ env, directory: '/nonexistent' });
const catalogue = await describeActions({ plugins, environment, watchdogSeconds });
const actions = catalogue.describe();
const files = new Map([[values.output, formatted(sourceOf(actions))]]);
if (values.output === COMMITTED)
  files.set(ASYNC_API, `${JSON.stringify(asyncApiDocument({ actions, queue: 'fleet_manager' }), null, 2)}\n`);
for (const [file, text] of files)
  if (!values.check) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write(`${file} does not match the plugins: run \`npm run generate\`\n`);
    process.exitCode = 1;
  }
