import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

/**
 * Lets files under these directories import `fleet-manager/plugin` and `yup` without an install: both resolve to the
 * copies this service runs on (Node's module customization hooks, https://nodejs.org/api/module.html). Their `.js` and
 * `.ts` files are ES modules, whether or not a `package.json` says so. What they have in a `node_modules` of their own
 * is left as it is.
 * @param directories without symbolic links in them, as Node names modules by their real paths
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

// Hooks run in a thread of their own, before any TypeScript loader: hence JavaScript, as text. Registered again, it is
// the same module that is given further directories.
const HOOK = `
let host;
const roots = [];
export function initialize(data) {
  host = data.host;
  roots.push(...data.roots);
}
function isOwn(url = '') {
  return roots.some((root) => url.startsWith(root) && !url.slice(root.length).includes('node_modules/'));
}
export async function resolve(specifier, context, next) {
  if (Object.hasOwn(host, specifier) && isOwn(context.parentURL)) return next(host[specifier], context);
  const resolved = await next(specifier, context);
  // tsx marks a TypeScript file without a package.json as CommonJS.
  const url = resolved.url.replace(/(%3F|[?])tsx-commonjs-.*/, '');
  return isOwn(url) && /[.][jt]s$/.test(url) ? { ...resolved, url, format: 'module' } : resolved;
}
`;
