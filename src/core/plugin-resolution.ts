import * as module from 'node:module';
import { pathToFileURL } from 'node:url';
import { type PluginHooksData, resolveHook } from './plugin-hooks.js';

/**
 * Lets files under these directories import `fleet-manager/plugin` and `yup` without installing them: both resolve to
 * the copies that this service uses (Node's module customization hooks, https://nodejs.org/api/module.html). Their
 * `.js` and `.ts` files are ES modules, with or without a `package.json`. Modules in their own `node_modules` resolve
 * as usual.
 * @param directories real paths, without symbolic links, because Node identifies modules by their real paths
 */
export function resolveForPlugins(directories: readonly string[]): void {
  const extension = import.meta.url.slice(-2);
  const data: PluginHooksData = {
    host: {
      'fleet-manager/plugin': new URL(`../plugin.${extension}`, import.meta.url).href,
      yup: import.meta.resolve('yup'),
    },
    roots: directories.map((each) => `${pathToFileURL(each).href}/`),
  };
  if (hasHooksInThread(module)) module.registerHooks({ resolve: resolveHook(data) });
  else module.register(new URL(`./plugin-hooks.${extension}`, import.meta.url), { data });
}

/** Since Node 22.15 and 23.5, which deprecate `register`; the installed types are those of Node 20, which lacks it. */
interface HooksInThread {
  registerHooks(hooks: { resolve: ReturnType<typeof resolveHook> }): void;
}

function hasHooksInThread(candidate: object): candidate is HooksInThread {
  return 'registerHooks' in candidate;
}
