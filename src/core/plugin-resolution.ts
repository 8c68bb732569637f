import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { dirname, join, resolve as resolvePath } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { fieldsOf } from '../lib/fields-of.js';
import { isWithin, type PluginHooksData, resolveHook } from './plugin-hooks.js';
import type { PluginPackage } from './plugin-package.js';

/**
 * Lets files under these directories and of these packages import `fleet-manager/plugin` and `yup` without installing them: both
 * resolve to the copies that this service uses (Node's module customization hooks, https://nodejs.org/api/module.html). The
 * `.js` and `.ts` files of directories are ES modules, with or without a `package.json`; those of packages are what Node says. Modules in
 * their own `node_modules` resolve as usual.
 * @param directories real paths, without symbolic links, because Node identifies modules by their real paths
 */
export function resolveForPlugins(
  directories: readonly string[],
  packages: readonly PluginPackage[] = [],
): void {
  const extension = import.meta.url.slice(-2);
  const plugin = new URL(`../plugin.${extension}`, import.meta.url).href;
  const isOwnOnly = packages.length === 0 && directories.every(isPartOfThisPackage);
  // Before 22.15, Node runs the hooks in a thread of their own, which makes the start a third longer and takes 15 MB.
  if (import.meta.resolve('fleet-manager/plugin') === plugin && isOwnOnly) return;
  const data: PluginHooksData = {
    host: { 'fleet-manager/plugin': plugin, yup: import.meta.resolve('yup') },
    roots: directories.map(folderUrl),
    packages: packages.map(({ real }) => folderUrl(real)),
    entries: Object.fromEntries(packages.map(({ url, name, foundFrom }) => [url, { name, foundFrom }])),
  };
  if (hasHooksInThread(module)) module.registerHooks({ resolve: resolveHook(data) });
  else {
    module.register(new URL(`./plugin-hooks.${extension}`, import.meta.url), { data });
    if (packages.length > 0) resolveRequires(data);
  }
}

function folderUrl(path: string): string {
  return `${pathToFileURL(path).href}/`;
}

/** Before 22.15, hooks do not see what CommonJS modules require: the function that Node calls for it is replaced. */
function resolveRequires({ host, packages }: Pick<PluginHooksData, 'host' | 'packages'>): void {
  const { Module } = module;
  const original: unknown = Reflect.get(Module, '_resolveFilename');
  if (typeof original !== 'function') return;
  const resolveRequire = (specifier: unknown, parent: unknown, ...more: unknown[]): unknown => {
    const { filename } = fieldsOf(parent);
    const target =
      typeof specifier === 'string' && Object.hasOwn(host, specifier) ? host[specifier] : undefined;
    return target !== undefined &&
      typeof filename === 'string' &&
      isWithin(packages, pathToFileURL(filename).href)
      ? fileURLToPath(target)
      : Reflect.apply(original, Module, [specifier, parent, ...more]);
  };
  Reflect.set(Module, '_resolveFilename', resolveRequire);
}

/** Since Node 22.15 and 23.5, which deprecate `register`; the installed types are those of Node 20, which lacks it. */
interface HooksInThread {
  registerHooks(hooks: { resolve: ReturnType<typeof resolveHook> }): void;
}

function hasHooksInThread(candidate: object): candidate is HooksInThread {
  return 'registerHooks' in candidate;
}

/** The folder of `src` and `plugins`, in the sources or in the build. */
const OWN = resolvePath(fileURLToPath(new URL('../../', import.meta.url)));

/** Whether Node resolves what its files import as it does for this file: it belongs to the same package. */
function isPartOfThisPackage(directory: string): boolean {
  const isOwn = directory === OWN;
  if (isOwn || dirname(directory) === directory) return isOwn;
  const has = (name: string) => existsSync(join(directory, name));
  return !has('package.json') && !has('node_modules') && isPartOfThisPackage(dirname(directory));
}
