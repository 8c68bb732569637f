import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALL_SETTINGS } from './settings.js';
import { reasonOf } from '../lib/errors.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where settings come from: the environment, and the folder that contains `config/`. */
export interface ConfigurationSource {
  env: Environment;
  directory: string;
}

/** The raw settings, before their form is checked. */
export interface GivenSettings {
  values: Record<string, unknown>;
  /** The value of `NODE_ENV`. */
  environment: string;
  /** The names of the settings in the configuration file. */
  inFile: ReadonlySet<string>;
  /** The names of the settings whose file could not be read; the problems contain the reason. */
  unread: ReadonlySet<string>;
}

/** Collects the settings. Environment variables override the configuration file. A secret can come from its own file. */
export function givenSettings(source: ConfigurationSource, problems: string[]): GivenSettings {
  const { env } = source;
  const fromFile = settingsOfFile(source, problems);
  const values: Record<string, unknown> = { ...fromFile };
  const unread = new Set<string>();
  for (const { name, secret } of ALL_SETTINGS) {
    // Many tools pass an unset variable as an empty one.
    if (env[name] !== undefined && env[name] !== '') values[name] = env[name];
    const file = env[`${name}_FILE`];
    if (!secret || file === undefined || file === '') continue;
    if (env[name]) {
      problems.push(`${name} and ${name}_FILE are both set: set one of them`);
      continue;
    }
    values[name] = contentOf(`${name}_FILE`, file, problems)?.toString('utf8').trim();
    if (values[name] === undefined) unread.add(name);
  }
  const environment = typeof values.NODE_ENV === 'string' ? values.NODE_ENV.trim() : 'development';
  return { values, environment, inFile: new Set(Object.keys(fromFile)), unread };
}

/** The content of the file that a setting names. When it cannot be read: undefined, and a problem is added. */
export function contentOf(name: string, path: string, problems: string[]): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    problems.push(`${name} names a file that cannot be read: ${readProblem(error)}`);
    return undefined;
  }
}

function settingsOfFile(
  { env, directory }: ConfigurationSource,
  problems: string[],
): Record<string, unknown> {
  const file = join(directory, 'config', `${env.NODE_ENV || 'development'}.json`);
  if (!existsSync(file)) return {};
  try {
    const content: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof content !== 'object' || content === null || Array.isArray(content))
      throw new Error('it is not a JSON object');
    const separators = new Map(ALL_SETTINGS.map(({ name, separator }) => [name, separator]));
    for (const name of Object.keys(content))
      if (!separators.has(name)) problems.push(`${file}: there is no setting ${name}`);
    const known = Object.entries(content).filter(([name]) => separators.has(name));
    return Object.fromEntries(known.map(([name, value]) => [name, joined(value, separators.get(name))]));
  } catch (error) {
    problems.push(`${file} cannot be read: ${readProblem(error)}`);
    return {};
  }
}

/** Converts a list in the file to the text that the environment variable would have. */
function joined(value: unknown, separator: string | undefined): unknown {
  if (separator === undefined || !Array.isArray(value)) return value;
  const isItem = (each: unknown) => typeof each === 'string' && !each.includes(separator);
  // A list with other items is kept as it is: the check of the form then reports it.
  return value.every(isItem) ? value.join(separator) : value;
}

function readProblem(error: unknown): string {
  // The message of the parser quotes the file, which may contain a secret.
  if (error instanceof SyntaxError) return 'it is not valid JSON';
  return reasonOf(error);
}
