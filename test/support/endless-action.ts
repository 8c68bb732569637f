import type { ExecutionContext } from 'ava';
import { writeChange } from './write-plugin.js';

/**
 * The settings for the change `endless`, which never ends, whatever it is told. It logs `begun`.
 * @param dispose the source of its clean-up, which ends at once by default
 */
export async function endlessAction(
  t: ExecutionContext,
  dispose?: string,
): Promise<{ PLUGIN_PATHS: string }> {
  const handle = `async ({ log }) => { log.error('begun'); return new Promise(() => {}); }`;
  return { PLUGIN_PATHS: await writeChange(t, 'endless', { handle, dispose }) };
}
