import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { describeActions } from '../../src/composition.js';
import { readConfiguration } from '../../src/settings/configuration.js';
import { typeOfSchema } from '../support/schema-type.js';

const ROOT = new URL('../../', import.meta.url).pathname;

/** What the compiler says of a file that has the client's types at hand. */
async function compiled(lines: readonly string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'known-actions-'));
  const known = join(ROOT, 'src/client/known-actions.js');
  const head = `import type { KnownActions } from '${known}';
    type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;`;
  await writeFile(join(directory, 'check.mts'), [head, ...lines].join('\n'));
  const options = { extends: join(ROOT, 'tsconfig.json'), files: ['check.mts'], include: [] };
  const compilerOptions = { typeRoots: [join(ROOT, 'node_modules/@types')] };
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ ...options, compilerOptions }));
  const said = await new Promise<string>((resolve) =>
    execFile(join(ROOT, 'node_modules/.bin/tsc'), ['-p', directory, '--pretty', 'false'], (error, stdout) =>
      resolve(`${stdout}${error !== null && stdout === '' ? error.message : ''}`),
    ),
  );
  await rm(directory, { recursive: true });
  return said;
}

test("the client's types of the service's own actions are those of the catalogue", async (t) => {
  const catalogue = await describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));
  const unsaid: string[] = [];
  const lines = catalogue.describe().flatMap(({ name, ...schemas }) =>
    (['parameters', 'result'] as const).map((part) => {
      const type = typeOfSchema(schemas[part]);
      if (type === undefined) unsaid.push(`${name}.${part}`);
      return type === undefined
        ? ''
        : `export const ${name}_${part}: Same<KnownActions['${name}']['${part}'], ${type}> = true;`;
    }),
  );
  const names = catalogue.describe().map(({ name }) => `'${name}'`);
  lines.push(`export const names: Same<keyof KnownActions, ${names.join(' | ')}> = true;`);
  t.is(await compiled(lines), '');
  t.deepEqual(unsaid, []);
});

test('a difference is found, however small', async (t) => {
  const parameters = "KnownActions['restart_unit']['parameters']";
  for (const type of [
    '{ unit_name: string; wait_seconds: number }',
    '{ unit_name?: string; wait_seconds?: number }',
    '{ unit_name: string; wait_seconds?: string }',
    '{ unit_name: string }',
    '{ unit_name: string; wait_seconds?: number; more?: string }',
  ]) {
    t.regex(await compiled([`export const differs: Same<${parameters}, ${type}> = true;`]), /TS2322/);
  }
});
