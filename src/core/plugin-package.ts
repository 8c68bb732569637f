import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fieldsOf } from '../lib/fields-of.js';

/** An installed npm package of actions. */
export interface PluginPackage {
  readonly name: string;
  /** As its package.json says; undefined: that has none, or cannot be read. */
  readonly version: string | undefined;
  /** The real path of its folder, without symbolic links. */
  readonly real: string;
  /** The URL that imports it, where `resolveForPlugins` knows it. */
  readonly url: string;
  /** The URL from which Node finds it by its name. */
  readonly foundFrom: string;
}

/**
 * Finds a package as Node does (https://nodejs.org/api/esm.html#resolution-algorithm-specification): in the folder `node_modules` of
 * one of these folders, or of one above it.
 * @param from the folders to start from; the first that has it counts
 * @throws Error that says where it was looked for
 */
export async function findPackage(name: string, from: readonly string[]): Promise<PluginPackage> {
  for (const start of from) {
    for (const folder of withParents(start)) {
      const path = join(folder, 'node_modules', name);
      if (!(await isFolder(path))) continue;
      return {
        name,
        version: await versionIn(path),
        real: await realpath(path),
        url: `fleet-manager-plugin:${pathToFileURL(path).href}`,
        foundFrom: pathToFileURL(join(folder, 'package.json')).href,
      };
    }
  }
  const places = from.map((each) => `${each} or a folder above it`).join(', nor in ');
  throw new Error(`is not installed: there is no node_modules/${name} in ${places}`);
}

function withParents(folder: string): string[] {
  const parent = dirname(folder);
  return parent === folder ? [folder] : [folder, ...withParents(parent)];
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function versionIn(folder: string): Promise<string | undefined> {
  try {
    const { version } = fieldsOf(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')));
    return typeof version === 'string' ? version : undefined;
  } catch {
    return undefined;
  }
}
