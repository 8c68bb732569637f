import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { withBlock } from '../scripts/generated-block.js';
import { inRepository, REPOSITORY } from './support/repository.js';

/** Runs `npm run generate`. */
async function generate(...options: string[]): Promise<unknown> {
  const script = inRepository('scripts/generate.ts');
  return promisify(execFile)(process.execPath, ['--import=tsx', script, ...options], { cwd: REPOSITORY });
}

test('what is generated is up to date, and every file that is not is found and written again', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'generate-'));
  t.teardown(async () => rm(root, { recursive: true }));
  const kept = ['README.md', 'docs', 'plugins', 'src/client/action-types.ts'];
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
