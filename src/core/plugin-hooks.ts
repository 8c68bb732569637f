/** The data for the hooks. */
export interface PluginHooksData {
  /** The modules that plugins may import without installing them: specifier -> URL. */
  host: Readonly<Record<string, string>>;
  /** The URLs of the plugin directories and folders, each with a trailing slash. */
  roots: readonly string[];
  /** The URLs of the folders of plugin packages, each with a trailing slash. */
  packages: readonly string[];
  /** The plugin packages by the URL that imports them: the name of the package, and the URL of a module that would find it. */
  entries: Readonly<Record<string, { name: string; foundFrom: string }>>;
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
export function resolveHook({ host, roots, packages, entries }: PluginHooksData) {
  const asModule = (resolved: Resolved): Resolved => {
    // tsx marks a TypeScript file without a package.json as CommonJS.
    const url = resolved.url.replace(/(%3F|[?])tsx-commonjs-.*/, '');
    const isModule = /[.][jt]s$/.test(url) && isWithin(roots, url) && !isWithin(packages, url);
    return isModule ? { ...resolved, url, format: 'module' } : resolved;
  };
  return <Context extends { parentURL?: string }>(
    specifier: string,
    context: Context,
    next: Next<Context>,
  ): Resolved | Promise<Resolved> => {
    const { parentURL } = context;
    const isOwn = isWithin(roots, parentURL) || isWithin(packages, parentURL);
    const target = isOwn && Object.hasOwn(host, specifier) ? host[specifier] : undefined;
    if (target !== undefined) return next(target, context);
    const entry = Object.hasOwn(entries, specifier) ? entries[specifier] : undefined;
    if (entry !== undefined) return next(entry.name, { ...context, parentURL: entry.foundFrom });
    const resolved = next(specifier, context);
    return resolved instanceof Promise ? resolved.then(asModule) : asModule(resolved);
  };
}

/** Whether a file belongs to one of these folders, and not to a package that is installed in it. */
export function isWithin(folders: readonly string[], file = ''): boolean {
  return folders.some(
    (folder) => file.startsWith(folder) && !file.slice(folder.length).includes('node_modules/'),
  );
}

// For `module.register`, which loads this file once in the hooks' thread; all registrations share it.

const registered: {
  host: Record<string, string>;
  roots: string[];
  packages: string[];
  entries: Record<string, { name: string; foundFrom: string }>;
} = { host: {}, roots: [], packages: [], entries: {} };

export function initialize({ host, roots, packages, entries }: PluginHooksData): void {
  Object.assign(registered.host, host);
  registered.roots.push(...roots);
  registered.packages.push(...packages);
  Object.assign(registered.entries, entries);
}

export const resolve = resolveHook(registered);
