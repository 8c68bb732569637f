import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { folder } from './settings.js';

/** Writes a plugin into a folder of its own, which is removed when the test ends. @returns the value of `PLUGIN_PATHS` */
export async function writePlugin(
  t: ExecutionContext,
  name: string,
  source: string,
  file = 'index.js',
): Promise<string> {
  const paths = join(await folder(t), 'plugins');
  await mkdir(join(paths, name), { recursive: true });
  await writeFile(join(paths, name, file), source);
  return paths;
}

/** The source of a change without parameters, whose result is a string. */
export interface ChangeSource {
  handle: string;
  /** More imports. */
  imports?: string;
  /** Its clean-up; ends at once by default. */
  dispose?: string;
}

/** Writes a plugin with such a change, as `writePlugin` does. */
export async function writeChange(
  t: ExecutionContext,
  name: string,
  { handle, imports = '', dispose = '() => {}' }: ChangeSource,
): Promise<string> {
  return writePlugin(
    t,
    name,
    `import { defineAction } from 'fleet-manager/plugin';
     import { object, string } from 'yup';
     ${imports}
     export default defineAction({
       name: '${name}', summary: 'Changes nothing.', target: 'none', effect: 'change',
       parameters: object({}),
       result: string().defined().meta({ description: 'Nothing.' }),
       handle: ${handle},
       dispose: ${dispose},
     });`,
  );
}
