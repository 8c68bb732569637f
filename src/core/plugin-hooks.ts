/** The data for the hooks. */
export interface PluginHooksData {
  /** The modules that plugins may import without installing them: specifier -> URL. */
  host: Readonly<Record<string, string>>;
  /** The URLs of the plugin directories and folders, each with a trailing slash. */
  roots: readonly string[];
}

interface Resolved {
  url: string;
  format?: string | null;
}

/** The next hook; it returns a promise in `module.register`, a value in `module.registerHooks`. */
type Next<Context> = (specifier: string, context: Context) => Resolved | Promise<Resolved>;

/**
 * Makes the resolve hook for plugins (https://nodejs.org/api/module.html#resolvespecifier-context-nextresolve). It
 * works for both kinds of hooks: asynchronous hooks in a separate thread, and synchronous hooks in this thread.
 */
export function resolveHook({ host, roots }: PluginHooksData) {
  const isOwn = (url = '') =>
    roots.some((root) => url.startsWith(root) && !url.slice(root.length).includes('node_modules/'));
  const asModule = (resolved: Resolved): Resolved => {
    // tsx marks a TypeScript file without a package.json as CommonJS.
    const url = resolved.url.replace(/(%3F|[?])tsx-commonjs-.*/, '');
    return isOwn(url) && /[.][jt]s$/.test(url) ? { ...resolved, url, format: 'module' } : resolved;
  };
  return <Context extends { parentURL?: string }>(
    specifier: string,
    context: Context,
    next: Next<Context>,
  ): Resolved | Promise<Resolved> => {
    const target = isOwn(context.parentURL) && Object.hasOwn(host, specifier) ? host[specifier] : undefined;
    if (target !== undefined) return next(target, context);
    const resolved = next(specifier, context);
    return resolved instanceof Promise ? resolved.then(asModule) : asModule(resolved);
  };
}

// For `module.register`, which loads this file once in the hooks' thread; all registrations share it.

const registered: { host: Record<string, string>; roots: string[] } = { host: {}, roots: [] };

export function initialize({ host, roots }: PluginHooksData): void {
  Object.assign(registered.host, host);
  registered.roots.push(...roots);
}

export const resolve = resolveHook(registered);
