import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { folder } from './settings.js';

/** Writes a plugin into a folder of its own, which is removed when the test ends. @returns the value of `PLUGIN_PATHS` */
export async function writePlugin(t: ExecutionContext, name: string, source: string): Promise<string> {
  const paths = join(await folder(t), 'plugins');
  await mkdir(join(paths, name), { recursive: true });
  await writeFile(join(paths, name, 'index.js'), source);
  return paths;
}
