import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import type { Setting } from './setting.js';
import { ALL_SETTINGS } from './settings.js';
import { reasonOf } from '../lib/errors.js';
import { maskedIfUrl } from '../lib/masked-url.js';
import { printable } from '../lib/printable.js';

const DEFAULT_ENVIRONMENT = 'development';
/** How the names of credentials begin which systemd loads by `LoadCredential=fleet-manager:FOLDER`. */
export const CREDENTIAL_PREFIX = 'fleet-manager_';

/** The variable in which systemd names the folder of credentials. */
const CREDENTIALS = 'CREDENTIALS_DIRECTORY';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where settings come from: the environment, and a file. */
export interface ConfigurationSource {
  env: Environment;
  /** The folder that contains `config/`. */
  directory: string;
  /** A file that must be there, in place of the one in `config/`; undefined: none is named. */
  file?: string | undefined;
}

/** The raw settings, before their form is checked. */
export interface GivenSettings {
  values: Record<string, unknown>;
  /** The value of `NODE_ENV`. */
  environment: string;
  /** The names of the settings in the configuration file. */
  inFile: ReadonlySet<string>;
  /** The names of the settings that may be in a file that could not be read; the problems contain the reason. */
  unread: ReadonlySet<string>;
  /** Where the settings of plugins are. Only the plugins know which there are. */
  plugins: PluginSettingsSource;
}

/** Where the settings of plugins come from. */
export interface PluginSettingsSource {
  /** What of the environment may be one, and where credentials are. */
  env: Environment;
  /** What of the configuration file may be one. */
  inFile: Readonly<Record<string, unknown>>;
  /** The path of the configuration file; undefined: there is none. */
  file: string | undefined;
}

/** How the names of the settings of plugins begin. */
const PLUGIN_PREFIX = 'PLUGIN_';

/**
 * Collects the settings. Environment variables override the configuration file. A secret can come from its own file, and any
 * setting from a credential of systemd. Spaces and line breaks around a value do not belong to it, and a value without
 * anything else counts as unset.
 */
export function givenSettings(source: ConfigurationSource, problems: string[]): GivenSettings {
  const { env } = source;
  const read = settingsOfFile(source, problems);
  const values: Record<string, unknown> = { ...read?.settings };
  const unread = new Set(read === undefined ? ALL_SETTINGS.map(({ name }) => name) : []);
  for (const setting of ALL_SETTINGS) {
    const { name } = setting;
    const given = givenBesidesFile(source, setting, problems);
    if (given.state === 'absent') continue;
    values[name] = given.state === 'given' ? given.value : undefined;
    if (given.state === 'given') unread.delete(name);
    else unread.add(name);
  }
  problems.push(...unknownCredentials(source));
  const environment = typeof values.NODE_ENV === 'string' ? values.NODE_ENV : DEFAULT_ENVIRONMENT;
  return {
    values,
    environment,
    inFile: new Set(Object.keys(read?.settings ?? {})),
    unread,
    plugins: {
      env: Object.fromEntries(
        Object.entries(env).filter(
          ([name, value = '']) =>
            value !== '' && (mayBePlugins(name) || (name === CREDENTIALS && existsSync(value))),
        ),
      ),
      inFile: read?.ofPlugins ?? {},
      file: configurationFile(source),
    },
  };
}

function mayBePlugins(name: string): boolean {
  return name.startsWith(PLUGIN_PREFIX) && !ALL_SETTINGS.some((each) => each.name === name);
}

/** `absent`: it may be in the configuration file. `unread`: it is in a file that could not be read; a problem was added. */
type GivenBesidesFile = { state: 'given'; value: unknown } | { state: 'absent' | 'unread' };

/** What is given for a setting by the environment, a file of its own, or a credential of systemd. */
export function givenBesidesFile(
  { env }: Pick<ConfigurationSource, 'env'>,
  setting: Pick<Setting, 'name' | 'secret' | 'isFile' | 'verbatim'>,
  problems: string[],
): GivenBesidesFile {
  const { name, isFile } = setting;
  const value = withoutSurroundings(env[name], setting);
  // Many tools pass an unset variable as an empty one.
  const ofVariable: GivenBesidesFile = value ? { state: 'given', value } : { state: 'absent' };
  const [file, another] = filesOf({ env }, setting);
  if (file === undefined) return ofVariable;
  if (value || another !== undefined) {
    const [one, other] = value ? [name, file.name] : [file.name, another?.name];
    problems.push(`${one} and ${other} are both set: set one of them`);
    return ofVariable;
  }
  if (isFile) return { state: 'given', value: file.path };
  const content = contentOf(file.name, file.path, problems, file.shown)?.toString('utf8');
  if (content === undefined) return { state: 'unread' };
  return { state: 'given', value: withoutSurroundings(content, setting) };
}

/** A file with the value of a setting, or the one that a setting names. */
interface SettingFile {
  /** What says that it is used, for people. */
  name: string;
  path: string;
  /** The path as a problem may show it; undefined: not at all. */
  shown: string | undefined;
}

/** The files that are given for a setting; more than one is a problem. */
export function filesOf(
  { env }: Pick<ConfigurationSource, 'env'>,
  { name, secret }: Pick<Setting, 'name' | 'secret'>,
): SettingFile[] {
  const files: SettingFile[] = [];
  const path = secret ? env[`${name}_FILE`]?.trim() : undefined;
  // Instead of a path, it may be the secret itself.
  if (path) files.push({ name: `${name}_FILE`, path, shown: isAbsolute(path) ? path : undefined });
  const credential = join(env.CREDENTIALS_DIRECTORY ?? '', `${CREDENTIAL_PREFIX}${name}`);
  if (env.CREDENTIALS_DIRECTORY && existsSync(credential))
    files.push({ name: `the credential ${CREDENTIAL_PREFIX}${name}`, path: credential, shown: credential });
  return files;
}

/** Problems of credentials of systemd that are for this service, but for no setting of it. */
function unknownCredentials(source: Pick<ConfigurationSource, 'env'>): string[] {
  const known = new Set(ALL_SETTINGS.map(({ name }) => name));
  return credentialsIn(source)
    .filter((name) => !known.has(name) && !mayBePlugins(name))
    .map((name) => `there is no setting for the credential ${CREDENTIAL_PREFIX}${printable(name)}`);
}

/** The names of the settings for which there are credentials of systemd. */
export function credentialsIn({ env }: Pick<ConfigurationSource, 'env'>): string[] {
  const { CREDENTIALS_DIRECTORY: folder } = env;
  if (!folder || !existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.startsWith(CREDENTIAL_PREFIX))
    .map((name) => name.slice(CREDENTIAL_PREFIX.length));
}

/** A line of an env file may end in CRLF, and a file in a line break. */
function withoutSurroundings<Value>(value: Value, { verbatim }: Pick<Setting, 'verbatim'>): Value | string {
  if (typeof value !== 'string') return value;
  return verbatim && value.trim() !== '' ? value.replace(/(?:\r\n|\n|\r)$/, '') : value.trim();
}

/**
 * The content of the file that a setting names, without a byte order mark. When it cannot be read: undefined, and a problem
 * is added.
 * @param shown the path as the problem may show it; undefined: not at all
 */
export function contentOf(
  name: string,
  path: string,
  problems: string[],
  shown: string | undefined,
): Buffer | undefined {
  try {
    return contentOfTextFile(path);
  } catch (error) {
    const value = shown === undefined ? '' : `; it is ${printable(JSON.stringify(maskedIfUrl(shown)))}`;
    problems.push(`${name} names a file that cannot be read: ${readProblem(error)}${value}`);
    return undefined;
  }
}

const UTF8_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const UTF16_MARKS = [Buffer.from([0xff, 0xfe]), Buffer.from([0xfe, 0xff])];

/** Editors on Windows write a byte order mark. No parser of ours expects one. */
function contentOfTextFile(path: string): Buffer {
  const content = readFileSync(path);
  if (UTF16_MARKS.some((mark) => content.subarray(0, mark.length).equals(mark)))
    throw new Error('it is in UTF-16: save it as UTF-8');
  return content.subarray(0, UTF8_MARK.length).equals(UTF8_MARK)
    ? content.subarray(UTF8_MARK.length)
    : content;
}

/** The path of the configuration file; undefined: there is none. One that was named need not be there. */
export function configurationFile({ env, directory, file: named }: ConfigurationSource): string | undefined {
  if (named !== undefined) return resolve(directory, named);
  const file = join(directory, 'config', `${env.NODE_ENV?.trim() || DEFAULT_ENVIRONMENT}.json`);
  return existsSync(file) ? file : undefined;
}

/** Undefined when the file cannot be read; then a problem is added. */
function settingsOfFile(
  source: ConfigurationSource,
  problems: string[],
): { settings: Record<string, unknown>; ofPlugins: Record<string, unknown> } | undefined {
  const file = configurationFile(source);
  if (file === undefined) return { settings: {}, ofPlugins: {} };
  try {
    const content: unknown = JSON.parse(contentOfTextFile(file).toString('utf8'));
    if (typeof content !== 'object' || content === null || Array.isArray(content))
      throw new Error('it is not a JSON object');
    const known = new Map(ALL_SETTINGS.map((each) => [each.name, each]));
    const entries: [string, unknown][] = Object.entries(content);
    const settings = entries.flatMap(([name, value]) => {
      const setting = known.get(name);
      if (setting === undefined && !mayBePlugins(name))
        problems.push(`${file}: there is no setting ${maskedIfUrl(name)}`);
      return setting === undefined
        ? []
        : [[name, withoutSurroundings(joined(value, setting.separator), setting)]];
    });
    const ofPlugins = entries.filter(([name]) => mayBePlugins(name));
    return { settings: Object.fromEntries(settings), ofPlugins: Object.fromEntries(ofPlugins) };
  } catch (error) {
    problems.push(`${file} cannot be read: ${readProblem(error)}`);
    return undefined;
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
  // Node quotes the path of the file.
  return reasonOf(error).replace(/, \w+ '.*'$/s, '');
}
