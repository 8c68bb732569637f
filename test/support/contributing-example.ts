import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/**
 * Writes the action that CONTRIBUTING.md shows, to the letter, where it says; it goes with the test.
 * @returns the directory for `PLUGIN_PATHS`
 */
export async function contributingExample(t: ExecutionContext): Promise<string> {
  const page = await readFile(new URL('../../CONTRIBUTING.md', import.meta.url), 'utf8');
  const [, code] = /```js\n([\s\S]*?)```/.exec(page) ?? [];
  if (code === undefined) throw new Error('CONTRIBUTING.md shows no action');
  const root = await mkdtemp(join(tmpdir(), 'contributing-'));
  t.teardown(async () => rm(root, { recursive: true }));
  const directory = join(root, 'my-actions');
  await mkdir(join(directory, 'count-units'), { recursive: true });
  await writeFile(join(directory, 'count-units', 'index.js'), code);
  return directory;
}
