import { access, readdir, realpath, stat } from 'node:fs/promises';
import { join, resolve as resolvePath } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Action, isAction } from '../api/action.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { importPlugin } from './import-plugin.js';
import { Catalogue } from './catalogue.js';
import { errorLocation } from './error-location.js';
import { resolveForPlugins } from './plugin-resolution.js';
import { prepareAction, type PrepareOptions, type PreparedAction } from './prepare-action.js';

/**
 * Plugins that cannot be served. `cause` is the original error, or an AggregateError with one PluginError for each
 * plugin.
 */
export class PluginError extends Error {
  override readonly name = 'PluginError';
  /** One sentence for each plugin: its folder and the reason. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[], cause?: unknown) {
    super(problems.join('\n'), { cause });
    this.problems = problems;
  }
}

/** `ACTIONS` names an action that no plugin declares. */
export class UnknownActionError extends Error {
  override readonly name = 'UnknownActionError';
}

export interface LoaderOptions extends PrepareOptions {
  /** Directories of plugin folders: first the service's own, then those of `PLUGIN_PATHS`. */
  directories: readonly string[];
  /** Returns the dependency for a token; throws when there is none. */
  resolve: (token: symbol) => unknown;
  clock: Clock;
  /** Serves no action with the effect `change`. */
  readOnly?: boolean;
  /** The names of the actions to serve; by default all. */
  only?: readonly string[];
  /** How long the import of one plugin may take, in milliseconds. */
  importTimeoutMs?: number;
}

// Plugins may be TypeScript only when this file also runs as TypeScript: in development.
const RUNS_AS_SOURCE = import.meta.url.endsWith('.ts');

/**
 * Loads every plugin folder.
 * @throws PluginError with all plugins that cannot be served, in alphabetical order
 * @throws UnknownActionError when `only` names an action that no plugin declares
 */
export async function loadPlugins(options: LoaderOptions): Promise<Catalogue> {
  const failures: PluginError[] = [];
  const directories = await realDirectories(options.directories, failures);
  const foldersOfEach = await allOf(
    directories.map(async (each) => pluginFolders(each, failures)),
    failures,
  );
  const folders = foldersOfEach.flat();
  resolveForPlugins([...directories, ...folders].map(({ real }) => real));
  const loaded: LoadedPlugin[] = [];
  // One after the other, so that it is known whose code runs.
  for (const { path } of folders) loaded.push(...(await allOf([loadFolder(path, options)], failures)));
  const byName = new Map<string, LoadedPlugin>();
  for (const plugin of loaded) {
    const { name } = plugin.action;
    const duplicate = byName.get(name);
    if (duplicate === undefined) byName.set(name, plugin);
    else
      failures.push(
        failure(plugin.folder, `declares the action '${name}', which ${duplicate.folder} already declares`),
      );
  }
  if (failures.length > 0) throw combined(failures);
  for (const name of options.only ?? []) {
    if (!byName.has(name)) {
      throw new UnknownActionError(
        `ACTIONS names '${name}', but the plugins declare only: ${[...byName.keys()].toSorted().join(', ')}`,
      );
    }
  }
  const served = [...byName.values()].filter(
    ({ action }) =>
      (!options.readOnly || action.effect === 'read') && (options.only?.includes(action.name) ?? true),
  );
  return new Catalogue(served.map((each) => each.served));
}

interface LoadedPlugin {
  folder: string;
  action: Action;
  served: PreparedAction;
}

/** The failure of one plugin, or of one directory of plugins. */
function failure(folder: string, reason: string, cause?: unknown): PluginError {
  return new PluginError([`plugin ${folder}: ${reason}`], cause);
}

function combined(failures: readonly PluginError[]): PluginError {
  const sorted = failures.toSorted((a, b) => (a.message < b.message ? -1 : 1));
  const [first] = sorted;
  if (first !== undefined && sorted.length === 1) return first;
  return new PluginError(
    sorted.flatMap(({ problems }) => problems),
    new AggregateError(sorted),
  );
}

/** Waits for all; returns the results of those that succeed and adds each PluginError of the others to `failures`. */
async function allOf<T>(work: readonly Promise<T>[], failures: PluginError[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(work);
  return outcomes.flatMap((outcome) => {
    if (outcome.status === 'fulfilled') return [outcome.value];
    if (!(outcome.reason instanceof PluginError)) throw outcome.reason;
    failures.push(outcome.reason);
    return [];
  });
}

/** A directory of plugins, or the folder of one. */
interface Directory {
  path: string;
  /** The real path, without symbolic links. */
  real: string;
}

/** The directories without duplicates, compared by their real paths. */
async function realDirectories(named: readonly string[], failures: PluginError[]): Promise<Directory[]> {
  const find = async (name: string): Promise<Directory> => {
    const path = resolvePath(name);
    return { path, real: await readable(path, async () => realpath(path)) };
  };
  const found = await allOf(named.map(find), failures);
  return found.filter(({ real }, index) => found.findIndex((each) => each.real === real) === index);
}

async function readable<T>(directory: string, read: () => Promise<T>): Promise<T> {
  return read().catch((cause: unknown) => {
    throw failure(directory, 'this plugin directory cannot be read', cause);
  });
}

async function pluginFolders(within: Directory, failures: PluginError[]): Promise<Directory[]> {
  const { path: directory } = within;
  const entries = await readable(directory, async () => readdir(directory, { withFileTypes: true }));
  const names = entries
    .filter(({ name }) => !name.startsWith('.') && name !== 'node_modules')
    .map(({ name }) => name)
    .toSorted();
  const known = new Set(entries.filter((entry) => entry.isDirectory()).map(({ name }) => name));
  const found = names.map(async (name) => folderAt(within, name, known.has(name)));
  const unreadable: PluginError[] = [];
  const folders = (await allOf(found, unreadable)).flat();
  failures.push(...unreadable);
  if (!(await haveEntryFile(folders)) && (await hasEntryFile(directory)))
    throw failure(directory, 'is itself a plugin: name its parent directory instead');
  // An operator who configures a directory expects plugins in it.
  if (folders.length === 0 && unreadable.length === 0)
    throw failure(directory, 'this directory has no plugins: a plugin is a folder with an index.js');
  return folders;
}

/** The entry of a directory if it is a folder, else an empty array. */
async function folderAt(directory: Directory, name: string, isFolder: boolean): Promise<Directory[]> {
  const path = join(directory.path, name);
  if (isFolder) return [{ path, real: join(directory.real, name) }];
  const found = await stat(path).catch((cause: unknown) => {
    throw failure(path, 'cannot be read', cause);
  });
  return found.isDirectory() ? [{ path, real: await realpath(path) }] : [];
}

/** Whether one of them is a plugin. */
async function haveEntryFile(folders: readonly Directory[]): Promise<boolean> {
  for (const { path } of folders) if (await hasEntryFile(path)) return true;
  return false;
}

async function hasEntryFile(folder: string): Promise<boolean> {
  return (await exists(join(folder, 'index.js'))) || exists(join(folder, 'index.ts'));
}

async function loadFolder(folder: string, options: LoaderOptions): Promise<LoadedPlugin> {
  const activity = options.watch?.loading(folder);
  activity?.began();
  try {
    return await loadPlugin(folder, options);
  } finally {
    activity?.ended();
  }
}

async function loadPlugin(folder: string, options: LoaderOptions): Promise<LoadedPlugin> {
  const entry = await entryFile(folder);
  const module = await importWithin(folder, entry, options);
  if (typeof module !== 'object' || module === null || !('default' in module)) {
    throw failure(folder, 'its entry file has no default export: export the value that defineAction returns');
  }
  const action = module.default;
  try {
    if (!isAction(action))
      throw new Error('its default export was not made by defineAction of fleet-manager/plugin');
    return { folder, action, served: prepareAction(action, options.resolve, options) };
  } catch (cause) {
    throw failure(folder, reasonOf(cause), cause);
  }
}

async function entryFile(folder: string): Promise<string> {
  for (const name of RUNS_AS_SOURCE ? ['index.ts', 'index.js'] : ['index.js']) {
    const file = join(folder, name);
    if (await exists(file)) return file;
  }
  if (await exists(join(folder, 'index.ts'))) {
    throw failure(
      folder,
      'has only index.ts, but the built service loads JavaScript: compile it to index.js',
    );
  }
  throw failure(folder, 'has no entry file index.js');
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function importWithin(
  folder: string,
  entry: string,
  { importTimeoutMs: ms = 30_000, clock }: LoaderOptions,
): Promise<unknown> {
  const late = `its import did not finish within ${ms} ms: check for an await at the top level`;
  const load = async () =>
    importPlugin(pathToFileURL(entry).href).catch(async (cause: unknown) => {
      const place = await errorLocation(await realpath(folder), cause);
      const where = place === undefined || reasonOf(cause).includes(place) ? '' : ` (${place})`;
      throw failure(folder, `its import failed: ${reasonOf(cause)}${where}`, cause);
    });
  return runWithin({ ms, clock, reason: () => failure(folder, late) }, async (signal) =>
    untilAborted(load(), signal),
  );
}
