import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { withBlock } from '../scripts/generated-block.js';
import { exportsOf, membersOf } from '../scripts/plugin-api.js';
import { compilerOutput } from './support/compiler-output.js';
import { inRepository, REPOSITORY } from './support/repository.js';

/** Runs `npm run generate`. */
async function generate(...options: string[]): Promise<unknown> {
  const script = inRepository('scripts/generate.ts');
  return promisify(execFile)(process.execPath, ['--import=tsx', script, ...options], { cwd: REPOSITORY });
}

test('what is generated is up to date, and every file that is not is found and written again', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'generate-'));
  t.teardown(async () => rm(root, { recursive: true }));
  const kept = ['README.md', 'CONTRIBUTING.md', 'docs', 'plugins', 'schemas', 'src/client/action-types.ts'];
  for (const path of kept) await cp(inRepository(path), join(root, path), { recursive: true });
  await t.notThrowsAsync(generate('--check', '--root', root));
  const changes = [
    ['src/client/action-types.ts', 'export'],
    ['docs/actions.md', 'Lists the units of a cluster'],
    ['README.md', '`desired_state`, '],
    ['plugins/node-info/README.md', 'null where it shows none'],
    ['plugins/unit-logs/README.md', 'default 10'],
  ] as const;
  for (const [path, text] of changes) {
    const page = await readFile(join(root, path), 'utf8');
    t.true(page.includes(text), path);
    await writeFile(join(root, path), page.replace(text, 'other'));
  }
  const error = await t.throwsAsync(generate('--check', '--root', root));
  for (const [path] of changes)
    t.true(error?.message.includes(`${path} is out of date: run \`npm run generate\``));
  await generate('--root', root);
  for (const [path] of changes)
    t.is(await readFile(join(root, path), 'utf8'), await readFile(inRepository(path), 'utf8'));
});

test('only the lines between the marks of a block are replaced', (t) => {
  const page = 'a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\nkept\n<!-- end -->\n';
  t.is(
    withBlock(page, 'x', ['| n |', '| - |']),
    'a\n<!-- generated: x -->\n\n| n |\n| - |\n\n<!-- end -->\nb\n<!-- generated: y -->\nkept\n<!-- end -->\n',
  );
  t.is(withBlock(page, 'z', ['new']), page);
  t.throws(() => withBlock('<!-- generated: x -->\n', 'x', []), { message: 'the block x has no end' });
});

test('the methods of the ports are read from the sources as the compiler reads them', async (t) => {
  const exported = exportsOf(inRepository('src/plugin.ts'));
  const tokens = exported.filter(({ text }) => text.includes(': Token<')).map(({ name }) => name);
  t.true(tokens.length >= 4);
  const page = await readFile(inRepository('CONTRIBUTING.md'), 'utf8');
  const lines = tokens.flatMap((name) => {
    const port = exported.find((each) => each.name === name && each.kind === 'interface');
    const methods = membersOf(port?.text ?? '');
    for (const { text } of methods) t.true(page.includes(`\`${text.replaceAll('|', '\\|')}\``), text);
    const names = methods.map((method) => `'${method.name}'`).join(' | ');
    return [
      `import type { ${name} } from '${inRepository('src/plugin.js')}';`,
      `export const of${name}: Same<keyof ${name}, ${names}> = true;`,
    ];
  });
  t.is(await compilerOutput(lines), '');
});

test('docs/plugin-api.md has everything that an action can import', async (t) => {
  const page = await readFile(inRepository('docs/plugin-api.md'), 'utf8');
  const values = Object.keys(await import('../src/plugin.js'));
  for (const name of values) t.true(page.includes(`\n## ${name}\n`), name);
  t.true(values.length > 25, `${values.length}`);
});
