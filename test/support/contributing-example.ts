import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { inRepository } from './repository.js';

/**
 * Writes the action of CONTRIBUTING.md, and its test, to the folders that it names; removed when the test ends. Only the
 * name of the action changes: a developer who starts with the example may have an action of that name in the service.
 * @returns the directory for `PLUGIN_PATHS`
 */
export async function contributingExample(
  t: Pick<ExecutionContext, 'teardown'>,
): Promise<{ directory: string; name: string }> {
  const page = await readFile(inRepository('CONTRIBUTING.md'), 'utf8');
  const [action, itsTest] = [...page.matchAll(/^ *```js\n([\s\S]*?)```/gm)].map(([, code = '']) => code);
  if (action === undefined || itsTest === undefined)
    throw new Error('CONTRIBUTING.md shows no action and test');
  const root = await mkdtemp(join(tmpdir(), 'contributing-'));
  t.teardown(async () => rm(root, { recursive: true }));
  const directory = join(root, 'my-actions');
  const name = 'count_units_as_contributing_shows';
  await mkdir(join(directory, 'count-units'), { recursive: true });
  await writeFile(join(directory, 'count-units/index.js'), action.replace("'count_units'", `'${name}'`));
  await writeFile(join(directory, 'count-units/count-units.test.js'), itsTest);
  return { directory, name };
}
