import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { folder } from './settings.js';

/**
 * The settings for the change `endless`, which never ends, whatever it is told. It logs `begun`.
 * @param dispose the source of its clean-up, which ends at once by default
 */
export async function endlessAction(
  t: ExecutionContext,
  dispose = '() => {}',
): Promise<{ PLUGIN_PATHS: string }> {
  const root = await folder(t);
  const directory = join(root, 'plugins', 'endless');
  await mkdir(directory, { recursive: true });
  await writeFile(
    join(directory, 'index.js'),
    `import { defineAction } from 'fleet-manager/plugin';
     import { object, string } from 'yup';
     export default defineAction({
       name: 'endless', summary: 'Never ends.', target: 'none', effect: 'change',
       parameters: object({}),
       result: string().defined().meta({ description: 'Nothing.' }),
       handle: async ({ log }) => { log.error('begun'); return new Promise(() => {}); },
       dispose: ${dispose},
     });`,
  );
  return { PLUGIN_PATHS: join(root, 'plugins') };
}
