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
import { findPackage, type PluginPackage } from './plugin-package.js';
import type { LoadedSettings, ReadPluginSettings } from './plugin-settings.js';
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

/** Settings of served actions that are wrong or missing. */
export class PluginSettingsError extends Error {
  override readonly name = 'PluginSettingsError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
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
  /** The names of npm packages of actions. */
  packages?: readonly string[];
  /** The folders from which packages are looked for, in order, each with the folders above it. */
  packagesFrom?: readonly string[];
  /** Returns the dependency for a token; throws when there is none. */
  resolve: (token: symbol) => unknown;
  clock: Clock;
  /** Serves no action with the effect `change`. */
  readOnly?: boolean;
  /** The names of the actions to serve; by default all. */
  only?: readonly string[];
  /** Reads the settings of the served actions; undefined: they are not needed, as nothing runs. */
  settings?: ReadPluginSettings | undefined;
  /** How long the import of one plugin may take, in milliseconds. */
  importTimeoutMs?: number;
}

// Plugins may be TypeScript only when this file also runs as TypeScript: in development.
const RUNS_AS_SOURCE = import.meta.url.endsWith('.ts');

/**
 * Loads every plugin folder and every plugin package.
 * @throws PluginError with all plugins that cannot be served, in alphabetical order
 * @throws UnknownActionError when `only` names an action that no plugin declares
 * @throws PluginSettingsError with all settings that are wrong or missing
 */
export async function loadPlugins(options: LoaderOptions): Promise<Catalogue> {
  const failures: PluginError[] = [];
  const directories = await realDirectories(options.directories, failures);
  const foldersOfEach = await allOf(
    directories.map(async (each) => pluginFolders(each, failures)),
    failures,
  );
  const folders = foldersOfEach.flat();
  const named = [...new Set(options.packages ?? [])];
  const packages = await allOf(
    named.map(async (name) => packageOf(name, options)),
    failures,
  );
  resolveForPlugins(
    [...directories, ...folders].map(({ real }) => real),
    packages,
  );
  const loaded: LoadedPlugin[] = [];
  // One after the other, so that it is known whose code runs.
  for (const { path } of folders) loaded.push(...(await allOf([loadFolder(path, options)], failures)));
  for (const each of packages) loaded.push(...(await allOf([loadPackage(each, options)], failures)).flat());
  const byName = new Map<string, LoadedPlugin>();
  for (const plugin of loaded) {
    const { name } = plugin.action;
    const duplicate = byName.get(name);
    if (duplicate === undefined) byName.set(name, plugin);
    else {
      const { plugin: other } = duplicate;
      failures.push(
        failure(
          plugin.plugin,
          `declares the action '${name}', which ${other.replace(/^plugin /, '')} already declares`,
        ),
      );
    }
  }
  failures.push(...sharedSettings([...byName.values()]));
  const isServed = ({ action }: LoadedPlugin) =>
    (!options.readOnly || action.effect === 'read') && (options.only?.includes(action.name) ?? true);
  const settings = loadedSettings([...byName.values()], { isServed, isComplete: failures.length === 0 });
  const read = options.settings?.(settings);
  const problems = read?.problems ?? [];
  if (failures.length > 0) throw combined([...failures, ...problems.map((each) => new PluginError([each]))]);
  for (const name of options.only ?? []) {
    if (!byName.has(name)) {
      throw new UnknownActionError(
        `ACTIONS names '${name}', but the plugins declare only: ${[...byName.keys()].toSorted().join(', ')}`,
      );
    }
  }
  if (problems.length > 0) throw new PluginSettingsError(problems);
  const served = [...byName.values()].filter(isServed).map((each) => {
    const values = read?.values.get(each.action.name);
    return values === undefined ? each.served : { ...each.served, settings: values };
  });
  return new Catalogue(served, {
    packages: packages.map(({ name, version }) => (version === undefined ? name : `${name}@${version}`)),
    settings,
    undeclared: read?.undeclared,
  });
}

function loadedSettings(
  loaded: readonly LoadedPlugin[],
  { isServed, isComplete }: { isServed: (plugin: LoadedPlugin) => boolean; isComplete: boolean },
): LoadedSettings {
  const of = (plugins: readonly LoadedPlugin[]) =>
    new Map(plugins.map(({ action: { name }, served }) => [name, served.declaredSettings]));
  return {
    served: of(loaded.filter(isServed)),
    others: of(loaded.filter((each) => !isServed(each))),
    isComplete,
  };
}

/** A failure for each setting that has the name of another one, or of the file of a secret. */
function sharedSettings(loaded: readonly LoadedPlugin[]): PluginError[] {
  const owners = new Map<string, LoadedPlugin>();
  return loaded.flatMap((each) =>
    each.served.declaredSettings.all.flatMap(({ name, field, secret }) => {
      const names = secret ? [name, `${name}_FILE`] : [name];
      const shared = names.find((one) => owners.has(one));
      const owner = shared === undefined ? undefined : owners.get(shared);
      for (const one of names) owners.set(one, owners.get(one) ?? each);
      if (owner === undefined) return [];
      const other = owner === each ? 'another of its settings' : `a setting of ${owner.action.name}`;
      return [
        failure(
          each.plugin,
          `the setting '${field}' of ${each.action.name} is ${shared}, and so is ${other}: rename one of them`,
        ),
      ];
    }),
  );
}

interface LoadedPlugin {
  /** For problems. */
  plugin: string;
  action: Action;
  served: PreparedAction;
}

/**
 * The failure of one plugin, or of one directory of plugins.
 * @param plugin what it is and where, such as `plugin /srv/plugins/count-units`
 */
function failure(plugin: string, reason: string, cause?: unknown): PluginError {
  return new PluginError([`${plugin}: ${reason}`], cause);
}

function inFolder(folder: string): string {
  return `plugin ${folder}`;
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
    throw failure(inFolder(directory), 'this plugin directory cannot be read', cause);
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
    throw failure(inFolder(directory), 'is itself a plugin: name its parent directory instead');
  // An operator who configures a directory expects plugins in it.
  if (folders.length === 0 && unreadable.length === 0)
    throw failure(
      inFolder(directory),
      'this directory has no plugins: a plugin is a folder with an index.js',
    );
  return folders;
}

/** The entry of a directory if it is a folder, else an empty array. */
async function folderAt(directory: Directory, name: string, isFolder: boolean): Promise<Directory[]> {
  const path = join(directory.path, name);
  if (isFolder) return [{ path, real: join(directory.real, name) }];
  const found = await stat(path).catch((cause: unknown) => {
    throw failure(inFolder(path), 'cannot be read', cause);
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
  return whileLoading(folder, options, async () => {
    const plugin = inFolder(folder);
    const url = pathToFileURL(await entryFile(folder)).href;
    const module = await importWithin({ plugin, folder, url }, options);
    const action = defaultExportOf(module);
    if (action === undefined)
      throw failure(
        plugin,
        'its entry file has no default export: export the value that defineAction returns',
      );
    return prepared(plugin, action.value, options);
  });
}

async function packageOf(
  name: string,
  { packagesFrom = [] }: Pick<LoaderOptions, 'packagesFrom'>,
): Promise<PluginPackage> {
  return findPackage(name, packagesFrom).catch((cause: unknown) => {
    throw failure(inPackage(name), reasonOf(cause), cause);
  });
}

function inPackage(name: string): string {
  return `package ${name}`;
}

async function loadPackage(
  { name, real, url }: PluginPackage,
  options: LoaderOptions,
): Promise<LoadedPlugin[]> {
  return whileLoading(name, options, async () => {
    const plugin = inPackage(name);
    const exported = defaultExportOf(await importWithin({ plugin, folder: real, url }, options));
    const what = 'the value that defineAction returns, or a list of such values';
    if (exported === undefined) throw failure(plugin, `has no default export: export ${what}`);
    const actions = withoutCompiler(exported.value);
    if (!Array.isArray(actions)) return [prepared(plugin, actions, options)];
    if (actions.length === 0) throw failure(plugin, `its default export is an empty list: export ${what}`);
    const failures: PluginError[] = [];
    const loaded = actions.map(async (each: unknown, index) =>
      prepared(plugin, each, options, `item ${index} of its default export`),
    );
    const served = await allOf(loaded, failures);
    if (failures.length > 0) throw combined(failures);
    return served;
  });
}

async function whileLoading<T>(
  name: string,
  { watch }: Pick<LoaderOptions, 'watch'>,
  load: () => Promise<T>,
): Promise<T> {
  const activity = watch?.loading(name);
  activity?.began();
  try {
    return await load();
  } finally {
    activity?.ended();
  }
}

/** @returns undefined: it has none */
function defaultExportOf(module: unknown): { value: unknown } | undefined {
  if (typeof module !== 'object' || module === null || !('default' in module)) return undefined;
  return { value: module.default };
}

/** An ES module that was compiled to CommonJS has its default export in a field of what it exports. */
function withoutCompiler(exported: unknown): unknown {
  const isCompiled = typeof exported === 'object' && exported !== null && '__esModule' in exported;
  return isCompiled && 'default' in exported ? exported.default : exported;
}

/** @param item what it is in the default export; undefined: it is the default export */
function prepared(plugin: string, action: unknown, options: LoaderOptions, item?: string): LoadedPlugin {
  let where = '';
  try {
    if (!isAction(action))
      throw new Error(`${item ?? 'its default export'} was not made by defineAction of fleet-manager/plugin`);
    if (item !== undefined) where = `${item}: `;
    return { plugin, action, served: prepareAction(action, options.resolve, options) };
  } catch (cause) {
    throw failure(plugin, `${where}${reasonOf(cause)}`, cause);
  }
}

async function entryFile(folder: string): Promise<string> {
  for (const name of RUNS_AS_SOURCE ? ['index.ts', 'index.js'] : ['index.js']) {
    const file = join(folder, name);
    if (await exists(file)) return file;
  }
  if (await exists(join(folder, 'index.ts'))) {
    throw failure(
      inFolder(folder),
      'has only index.ts, but the built service loads JavaScript: compile it to index.js',
    );
  }
  throw failure(inFolder(folder), 'has no entry file index.js');
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function importWithin(
  { plugin, folder, url }: { plugin: string; folder: string; url: string },
  { importTimeoutMs: ms = 30_000, clock }: LoaderOptions,
): Promise<unknown> {
  const late = `its import did not finish within ${ms} ms: check for an await at the top level`;
  const load = async () =>
    importPlugin(url).catch(async (cause: unknown) => {
      const place = await errorLocation(await realpath(folder), cause);
      const where = place === undefined || reasonOf(cause).includes(place) ? '' : ` (${place})`;
      throw failure(plugin, `its import failed: ${reasonOf(cause)}${where}`, cause);
    });
  return runWithin({ ms, clock, reason: () => failure(plugin, late) }, async (signal) =>
    untilAborted(load(), signal),
  );
}
