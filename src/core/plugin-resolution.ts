import * as module from 'node:module';
import { pathToFileURL } from 'node:url';
import { type PluginHooksData, resolveHook } from './plugin-hooks.js';

/**
 * Lets files under these directories import `fleet-manager/plugin` and `yup` without an install: both resolve to the
 * copies on which this service runs (Node's module customization hooks, https://nodejs.org/api/module.html). Their `.js`
 * and `.ts` files are ES modules, with or without a `package.json`. Modules in a `node_modules` of their own resolve as
 * usual.
 * @param directories without symbolic links in their paths, as Node names modules by their real paths
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

/** Node has it from 22.15 and 23.5 on, and deprecates `register` there. The types are those of Node 20, which lacks it. */
interface HooksInThread {
  registerHooks(hooks: { resolve: ReturnType<typeof resolveHook> }): void;
}

function hasHooksInThread(candidate: object): candidate is HooksInThread {
  return 'registerHooks' in candidate;
}
