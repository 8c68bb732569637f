import { access, readdir, realpath, stat } from 'node:fs/promises';
import { join, resolve as resolvePath } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Action, isAction } from '../api/action.js';
import type { Clock } from '../lib/clock.js';
import { Catalogue } from './catalogue.js';
import { failurePlace } from './failure-place.js';
import { resolveForPlugins } from './plugin-resolution.js';
import { prepareAction, type PrepareOptions, type ServedAction } from './prepare-action.js';

/** A plugin that cannot be served; the message names its folder and the reason, `cause` is what was thrown. */
export class PluginError extends Error {
  override readonly name = 'PluginError';

  constructor(folder: string, reason: string, cause?: unknown) {
    super(`plugin ${folder}: ${reason}`, { cause });
  }
}

/** An action that is to be served, and that no plugin declares. */
export class UnknownActionError extends Error {
  override readonly name = 'UnknownActionError';
}

export interface LoaderOptions extends PrepareOptions {
  /** Folders that hold plugin folders: the service's own first, then those of `PLUGIN_PATHS`. */
  directories: readonly string[];
  /** Gives the part of the service that a token names; throws when there is none. */
  resolve: (token: symbol) => unknown;
  clock: Clock;
  /** Leave out every action that changes something. */
  readOnly?: boolean;
  /** The only actions to serve, by name; left out: all. */
  only?: readonly string[];
  /** How long the import of one plugin may take, in milliseconds. */
  importTimeoutMs?: number;
}

// Whether this very file runs as source (development) decides whether plugins may be source too.
const RUNS_AS_SOURCE = import.meta.url.endsWith('.ts');

/**
 * Loads every plugin folder.
 * @throws PluginError for the first plugin, in alphabetical order, that cannot be served
 * @throws UnknownActionError when `only` names an action that none of them declares
 */
export async function loadPlugins(options: LoaderOptions): Promise<Catalogue> {
  const directories = await withoutDoubles(options.directories.map((each) => resolvePath(each)));
  const folders = (await Promise.all(directories.map(pluginFolders))).flat();
  resolveForPlugins(await Promise.all([...directories, ...folders].map((each) => realpath(each))));
  const loaded = await Promise.all(folders.map((folder) => settled(loadFolder(folder, options))));
  const byName = new Map<string, { folder: string; action: Action; served: ServedAction }>();
  for (const [index, folder] of folders.entries()) {
    const outcome = loaded[index];
    if (outcome === undefined || 'error' in outcome) throw outcome?.error;
    const { name } = outcome.value.action;
    const twin = byName.get(name);
    if (twin !== undefined) {
      throw new PluginError(folder, `declares the action '${name}', which ${twin.folder} declares already`);
    }
    byName.set(name, { folder, ...outcome.value });
  }
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

/** Those of the directories that are not one that stands before, by this name or another. */
async function withoutDoubles(directories: readonly string[]): Promise<string[]> {
  const real = await Promise.all(directories.map((each) => readable(each, () => realpath(each))));
  return directories.filter((_, index) => real.indexOf(real[index] ?? '') === index);
}

async function readable<T>(directory: string, read: () => Promise<T>): Promise<T> {
  return read().catch((cause: unknown) => {
    throw new PluginError(directory, 'this directory of plugins cannot be read', cause);
  });
}

async function pluginFolders(directory: string): Promise<string[]> {
  const entries = await readable(directory, () => readdir(directory, { withFileTypes: true }));
  const paths = entries
    .filter(({ name }) => !name.startsWith('.') && name !== 'node_modules')
    .map(({ name }) => join(directory, name))
    .toSorted();
  const areFolders = await Promise.all(paths.map(isFolder));
  const folders = paths.filter((_, index) => areFolders[index]);
  const arePlugins = await Promise.all(folders.map(hasEntryFile));
  if (!arePlugins.includes(true) && (await hasEntryFile(directory)))
    throw new PluginError(directory, 'is itself a plugin: name the directory above it');
  // Whoever names a directory wants something of it to be served.
  if (folders.length === 0)
    throw new PluginError(
      directory,
      'this directory has no plugins: each is a folder with an index.js in it',
    );
  return folders;
}

async function hasEntryFile(folder: string): Promise<boolean> {
  return (await exists(join(folder, 'index.js'))) || exists(join(folder, 'index.ts'));
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new PluginError(path, 'cannot be read', cause);
  });
  return found.isDirectory();
}

async function loadFolder(
  folder: string,
  options: LoaderOptions,
): Promise<{ action: Action; served: ServedAction }> {
  const entry = await entryFile(folder);
  const module = await importWithin(folder, entry, options);
  if (typeof module !== 'object' || module === null || !('default' in module)) {
    throw new PluginError(folder, 'its entry file has no default export; export what defineAction returns');
  }
  const action = module.default;
  if (!isAction(action)) {
    throw new PluginError(folder, 'its default export was not made by defineAction of fleet-manager/plugin');
  }
  try {
    return { action, served: prepareAction(action, options.resolve, options) };
  } catch (cause) {
    throw new PluginError(folder, messageOf(cause), cause);
  }
}

async function entryFile(folder: string): Promise<string> {
  for (const name of RUNS_AS_SOURCE ? ['index.ts', 'index.js'] : ['index.js']) {
    const file = join(folder, name);
    if (await exists(file)) return file;
  }
  if (await exists(join(folder, 'index.ts'))) {
    throw new PluginError(
      folder,
      'has only index.ts, and the built service loads JavaScript: compile it to index.js',
    );
  }
  throw new PluginError(folder, 'has no entry file index.js');
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function importWithin(folder: string, entry: string, options: LoaderOptions): Promise<unknown> {
  const limit = options.importTimeoutMs ?? 10_000;
  let cancel: () => void = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = options.clock.after(limit, () => {
      reject(
        new PluginError(
          folder,
          `its import did not settle within ${limit} ms: does it await something at its top level?`,
        ),
      );
    });
  });
  const imported = import(pathToFileURL(entry).href).catch(async (cause: unknown) => {
    const place = await failurePlace(await realpath(folder), cause);
    const where = place === undefined || messageOf(cause).includes(place) ? '' : ` (${place})`;
    throw new PluginError(folder, `its import failed: ${messageOf(cause)}${where}`, cause);
  });
  return Promise.race([imported, late]).finally(cancel);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function settled<T>(work: Promise<T>): Promise<{ value: T } | { error: unknown }> {
  return work.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}
