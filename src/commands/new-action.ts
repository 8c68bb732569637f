import { existsSync, lstatSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeActions } from '../composition.js';
import { isActionName } from '../core/prepare-action.js';
import { packageVersion } from '../lib/package-version.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print } from './output.js';
import { forShell } from './shell-word.js';
import { UsageError } from './usage-error.js';

export interface NewActionOptions {
  ts?: boolean;
  package?: boolean;
  /** Where to make its folder. */
  dir: string;
}

/** The name of the action in the templates, as callers, settings, files and code write it. */
const TEMPLATE = namesOf('count_units');

interface Names {
  snake: string;
  upper: string;
  kebab: string;
  camel: string;
}

/**
 * Makes the folder of a new action from a template, and prints what to do next.
 * @throws UsageError when the name cannot be used, or the folder exists
 */
export async function newAction(
  name: string,
  { ts = false, package: isPackage = false, dir }: NewActionOptions,
): Promise<number> {
  await requireName(name);
  const names = namesOf(name);
  const parent = resolvePath(dir);
  const folder = join(parent, names.kebab);
  await makeFolder(parent);
  await mkdir(folder).catch((cause: unknown) => {
    throw isThere(folder)
      ? new UsageError(`${folder} exists already: choose another name, or another folder with --dir`)
      : cause;
  });
  const template = join(templates(), `${ts ? 'typescript' : 'javascript'}${isPackage ? '-package' : ''}`);
  const files = await filesIn(template);
  for (const file of files) {
    const text = await readFile(join(template, file), 'utf8');
    const target = join(folder, renamed(file, names));
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, renamed(text, names), { flag: 'wx' });
  }
  print(nextSteps({ names, parent, ts, isPackage, files: files.map((file) => renamed(file, names)) }));
  return 0;
}

/**
 * Makes a folder and those above it. Not by `recursive` of Node.js, which tries for ever where the system has no such folder and makes
 * none, as in /proc.
 * @throws UsageError when there is a file in its place
 */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' && dirname(path) !== path) {
      await makeFolder(dirname(path));
      return mkdir(path);
    }
    if (code !== 'EEXIST') throw error;
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new UsageError(`${path} is not a folder`);
  }
}

/** Whether there is anything, also a link that leads nowhere. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

/** @throws UsageError that says which names can be used */
async function requireName(name: string): Promise<void> {
  if (!isActionName(name)) {
    const meant = name
      .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
      .replaceAll(/[^A-Za-z0-9]+/g, '_')
      .replaceAll(/^[_0-9]+|_+$/g, '')
      .toLowerCase();
    const instead = isActionName(meant) ? `: try '${meant}'` : ', such as count_units';
    throw new UsageError(
      `'${name}' cannot be the name of an action, which is snake_case, with at most 64 characters${instead}`,
    );
  }
  const own = await describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));
  if (own.find(name) !== undefined)
    throw new UsageError(`the service has an action ${name} already: choose another name`);
}

function namesOf(snake: string): Names {
  const camel = snake.replaceAll(/_(.)/g, (_all, letter: string) => letter.toUpperCase());
  return { snake, upper: snake.toUpperCase(), kebab: snake.replaceAll('_', '-'), camel };
}

function renamed(text: string, { snake, upper, kebab, camel }: Names): string {
  return text
    .replaceAll(TEMPLATE.snake, snake)
    .replaceAll(TEMPLATE.upper, upper)
    .replaceAll(TEMPLATE.kebab, kebab)
    .replaceAll(TEMPLATE.camel, camel);
}

/** The folder of the templates in this package. */
function templates(): string {
  // The build is one folder deeper than the sources.
  const places = ['../../templates', '../../../templates'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = places.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`the templates of this package are missing: ${places.join(', ')}`);
  return found;
}

/** The paths of the files in a template, without what a build or an installation has made of it. */
async function filesIn(template: string): Promise<string[]> {
  const entries = await readdir(template, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(template, join(entry.parentPath, entry.name)))
    .filter((path) => !/^(dist|node_modules)\b/.test(path))
    .toSorted();
}

interface Made {
  names: Names;
  parent: string;
  ts: boolean;
  isPackage: boolean;
  files: readonly string[];
}

function nextSteps({ names: { snake, kebab }, parent, ts, isPackage, files }: Made): string {
  const program = programFor(parent);
  const isHere = parent === process.cwd();
  const plugins = isPackage
    ? `PLUGINS=fleet-manager-${kebab}`
    : `PLUGIN_PATHS=${isHere ? '$PWD' : forShell(parent)}`;
  const folder = forShell(isHere ? kebab : join(parent, kebab));
  const steps = [
    ts ? [`(cd ${folder} && npm install && npm run build)`, 'build it'] : [],
    isPackage ? [`npm install ${isHere ? './' : ''}${folder}`, 'install it here, as a service does'] : [],
    [`${plugins} ${program} serve`, 'start it, in a sandbox'],
    [`${program} call ${snake} --cluster sandbox`, 'call it, in another terminal'],
    [`(cd ${folder} && npm test)`, 'test it'],
  ].filter(([command]) => command !== undefined);
  const width = Math.max(...steps.map(([command = '']) => command.length));
  return [
    `Made ${join(parent, kebab)}: ${files.join(', ')}`,
    '',
    ...(hasPackage(parent)
      ? []
      : [
          `Its test needs this package beside it: npm install --save-dev PATH/TO/fleet-manager-${packageVersion()}.tgz in ${parent}`,
          '',
        ]),
    'Next:',
    '',
    ...steps.map(([command = '', what = '']) => `  ${command.padEnd(width)}  # ${what}`),
    '',
  ].join('\n');
}

const RUNS_AS_SOURCE = import.meta.url.endsWith('.ts');

/** How this command is called there. */
function programFor(folder: string): string {
  if (RUNS_AS_SOURCE) return 'npm run -s fleet-manager --';
  return hasPackage(folder) ? 'npx fleet-manager' : 'fleet-manager';
}

/** Whether modules in this folder find this package. */
function hasPackage(folder: string): boolean {
  const parent = dirname(folder);
  return existsSync(join(folder, 'node_modules/fleet-manager')) || (parent !== folder && hasPackage(parent));
}
