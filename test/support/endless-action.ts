import type { ExecutionContext } from 'ava';
import { writePlugin } from './write-plugin.js';

/**
 * The settings for the change `endless`, which never ends, whatever it is told. It logs `begun`.
 * @param dispose the source of its clean-up, which ends at once by default
 */
export async function endlessAction(
  t: ExecutionContext,
  dispose = '() => {}',
): Promise<{ PLUGIN_PATHS: string }> {
  const PLUGIN_PATHS = await writePlugin(
    t,
    'endless',
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
  return { PLUGIN_PATHS };
}
