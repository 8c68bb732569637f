import {
  checkedSetting,
  type DeclaredSetting,
  type DeclaredSettings,
  fromText,
  type LoadedSettings,
  type ReadPluginSettings,
  type ReadSettings,
  settingPrefix,
  type UndeclaredVariable,
} from '../core/plugin-settings.js';
import { closestMatch } from '../lib/closest-match.js';
import { maskedIfUrl } from '../lib/masked-url.js';
import { printable } from '../lib/printable.js';
import { type ShownSetting, shownValue } from './describe-settings.js';
import {
  CREDENTIAL_PREFIX,
  credentialsIn,
  filesOf,
  givenBesidesFile,
  type PluginSettingsSource,
} from './given-settings.js';
import { explained, problemOfValue } from './refused-value.js';

/** How the settings of plugins are read, besides their name: as those of the service that are no files. */
const FORM = { isFile: false, verbatim: false } as const;

/** Reads the settings of plugins where those of the service are: the environment, the configuration file, files of secrets, credentials. */
export function pluginSettingsFrom(source: PluginSettingsSource): ReadPluginSettings {
  return ({ served, others, isComplete }): ReadSettings => {
    const problems: string[] = [];
    const values = new Map(
      [...served].map(([action, settings]) => [action, valuesOf(source, settings, problems)] as const),
    );
    const all = [...served.values(), ...others.values()].flatMap((each) => each.all);
    if (isComplete) problems.push(...unknownSettings(source, all));
    return { values, problems, undeclared: isComplete ? undeclaredVariables(source, served, all) : [] };
  };
}

function valuesOf(
  source: PluginSettingsSource,
  settings: DeclaredSettings,
  problems: string[],
): Readonly<Record<string, unknown>> {
  const given = new Map<string, unknown>();
  const before = problems.length;
  for (const setting of settings.all) {
    const raw = rawOf(source, setting, problems);
    if (raw === undefined) continue;
    const read = checkedSetting(setting, raw.value);
    if ('problems' in read) problems.push(...explained(read.problems, raw.shown, setting));
    else if (read.value !== undefined) given.set(setting.field, read.value);
  }
  if (problems.length > before) return {};
  const made = settings.valuesOf(given);
  if ('values' in made) return made.values;
  const [first] = settings.all;
  const prefix = first === undefined ? '' : settingPrefix(first.action);
  problems.push(...made.problems.map((each) => `the settings ${prefix}*: ${each}`));
  return {};
}

/** @returns undefined: it has a problem that was added */
function rawOf(
  source: PluginSettingsSource,
  setting: DeclaredSetting,
  problems: string[],
): { value: unknown; shown: unknown } | undefined {
  const { name, schema } = setting;
  const given = givenBesidesFile(source, { ...setting, ...FORM }, problems);
  if (given.state === 'unread') return undefined;
  if (given.state !== 'given') {
    const inFile = source.inFile[name];
    return { value: inFile, shown: inFile };
  }
  const text = String(given.value);
  const problem = problemOfValue(text, { ...setting, ...FORM });
  if (problem !== undefined) problems.push(...explained([problem], text, setting));
  return problem === undefined ? { value: fromText(schema, text), shown: text } : undefined;
}

/** Problems of what the configuration file and credentials have for no setting. */
function unknownSettings(source: PluginSettingsSource, all: readonly DeclaredSetting[]): string[] {
  const names = all.map(({ name }) => name);
  const meant = (name: string) => {
    const closest = closestMatch(name, names);
    return closest === undefined ? '' : `: did you mean ${closest}?`;
  };
  const isUnknown = (name: string) => !names.includes(name);
  return [
    ...Object.keys(source.inFile)
      .filter(isUnknown)
      .map((name) => `${source.file}: there is no setting ${maskedIfUrl(name)}${meant(name)}`),
    ...credentialsIn(source)
      .filter((name) => name.startsWith('PLUGIN_') && isUnknown(name))
      .map(
        (name) =>
          `there is no setting for the credential ${CREDENTIAL_PREFIX}${printable(name)}${meant(name)}`,
      ),
  ];
}

/** The environment may have variables of other programs: only what names a served action is told. */
function undeclaredVariables(
  { env }: PluginSettingsSource,
  served: LoadedSettings['served'],
  all: readonly DeclaredSetting[],
): UndeclaredVariable[] {
  const names = all.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name]));
  const prefixes = [...served.keys()].map(settingPrefix);
  return Object.keys(env)
    .filter((variable) => !names.includes(variable) && prefixes.some((each) => variable.startsWith(each)))
    .toSorted()
    .map((variable) => ({ variable, meant: closestMatch(variable, names) }));
}

/** The settings of plugins with their values and where these come from. Secrets are masked. */
export function describePluginSettings(
  source: PluginSettingsSource,
  all: readonly DeclaredSetting[],
): ShownSetting[] {
  return all.map((setting) => {
    const { name, about } = setting;
    const given = givenBesidesFile(source, { ...setting, ...FORM }, []);
    const inEnvironment = Boolean(source.env[name]?.trim()) || filesOf(source, setting).length > 0;
    const inFile = source.inFile[name];
    const constant = setting.default === undefined ? undefined : asText(setting.default);
    const from = inEnvironment
      ? 'environment'
      : inFile !== undefined
        ? 'file'
        : constant === undefined
          ? 'unset'
          : 'default';
    const value = given.state === 'given' ? given.value : inFile;
    return {
      name,
      value: value === undefined ? constant : shownValue(value, { ...setting, secret: false }),
      from,
      default: constant,
      about,
      ...(setting.secret && value !== undefined && { value: '***' }),
    };
  });
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
