import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Writes the action that CONTRIBUTING.md shows, to the letter, where it says. @returns the directory for `PLUGIN_PATHS` */
export async function contributingExample(): Promise<string> {
  const page = await readFile(new URL('../../CONTRIBUTING.md', import.meta.url), 'utf8');
  const [, code] = /```js\n([\s\S]*?)```/.exec(page) ?? [];
  if (code === undefined) throw new Error('CONTRIBUTING.md shows no action');
  const directory = join(await mkdtemp(join(tmpdir(), 'contributing-')), 'my-actions');
  await mkdir(join(directory, 'count-units'), { recursive: true });
  await writeFile(join(directory, 'count-units', 'index.js'), code);
  return directory;
}
