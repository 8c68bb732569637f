import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

/**
 * Lets files under these directories import `fleet-manager/plugin` and `yup` without an install: both resolve to the
 * copies this service runs on (Node's module customization hooks, https://nodejs.org/api/module.html).
 */
export function resolveForPlugins(directories: readonly string[]): void {
  const host = {
    'fleet-manager/plugin': new URL(`../plugin.${import.meta.url.slice(-2)}`, import.meta.url).href,
    yup: import.meta.resolve('yup'),
  };
  register(`data:text/javascript,${encodeURIComponent(HOOK)}`, {
    data: { host, roots: directories.map((each) => `${pathToFileURL(each).href}/`) },
  });
}

// Hooks run in a thread of their own, before any TypeScript loader: hence JavaScript, as text.
const HOOK = `
let host, roots;
export function initialize(data) { ({ host, roots } = data); }
export function resolve(specifier, context, next) {
  const own = Object.hasOwn(host, specifier) && roots.some((root) => context.parentURL?.startsWith(root));
  return own ? { url: host[specifier], shortCircuit: true, format: 'module' } : next(specifier, context);
}
`;
