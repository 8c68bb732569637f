import { ValidationError } from 'yup';
import { ConfigurationError } from './configuration-error.js';
import { type ConfigurationSource, contentOf, givenSettings } from './given-settings.js';
import { problemsBetween, problemsOfServing } from './problems.js';
import { explained, problemOfValue } from './refused-value.js';
import {
  type GivenValue,
  isOptional,
  isRequired,
  isSetting,
  type ReadingContext,
  type Section,
  type Setting,
  settingsIn,
} from './setting.js';
import { ALL_SETTINGS, type Configuration, type PluginConfiguration, SETTINGS } from './settings.js';

/**
 * Reads the configuration. Environment variables override `config/$NODE_ENV.json`. A secret can also come from the file
 * that `NAME_FILE` names.
 * @param serving whether it is for the service, which needs more settings than a caller
 * @throws ConfigurationError that lists all problems
 */
export function readConfiguration(source: ConfigurationSource, { serving = false } = {}): Configuration {
  const problems: string[] = [];
  const given = givenSettings(source, problems);
  const context: ReadingContext = {
    environment: given.environment,
    contentOf: (name, path) => contentOf(name, path, problems, path),
  };
  const invalid = new Set(given.unread);
  const values = new Map<string, GivenValue | undefined>();
  const converted = new Map<string, unknown>();
  for (const setting of ALL_SETTINGS) {
    const { name } = setting;
    const read = readSetting(setting, given.values[name], context);
    problems.push(...read.problems);
    if (read.problems.length > 0) invalid.add(name);
    values.set(name, read.given);
    converted.set(name, read.value);
  }
  problems.push(...problemsBetween({ values, invalid }));
  if (serving) problems.push(...problemsOfServing({ values, invalid }));
  const { plugins: pluginSettings } = given;
  if (problems.length > 0) {
    const { plugins, environment, watchdogSeconds } = SETTINGS;
    const ofPlugins = { plugins, environment, watchdogSeconds };
    const areValid = settingsIn(ofPlugins).every(({ name }) => !invalid.has(name));
    // As below.
    const read = { ...withValues(ofPlugins, converted), pluginSettings } as PluginConfiguration;
    throw new ConfigurationError(problems, areValid ? read : undefined);
  }
  // This cast is safe: `withValues` replaces each setting of the table by its value, as the type `Described` does.
  return { ...withValues(SETTINGS, converted), pluginSettings } as Configuration;
}

/** A setting whose form is wrong counts as unset, so that problems of other settings are reported too. */
function readSetting(
  setting: Setting,
  raw: unknown,
  context: ReadingContext,
): { given: GivenValue | undefined; value: unknown; problems: readonly string[] } {
  const refused = (problems: readonly string[]) => ({
    ...setting.read(undefined, context),
    problems: explained(problems, raw, setting),
  });
  try {
    const read = setting.read(raw, context);
    const problem = problemOfValue(raw, setting);
    return problem === undefined ? { ...read, problems: [] } : refused([problem]);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    return refused(error.errors);
  }
}

/** A section with the values of its settings; undefined when a required one has none. */
function withValues(
  section: Section,
  values: ReadonlyMap<string, unknown>,
): Record<string, unknown> | undefined {
  const result: Record<string, unknown> = {};
  for (const [key, node] of Object.entries(section)) {
    if (isSetting(node)) {
      result[key] = values.get(node.name);
      if (result[key] === undefined && isRequired(node)) return undefined;
    } else if (isOptional(node)) result[key] = withValues(node.fields, values);
    else {
      const inner = withValues(node, values);
      if (inner === undefined) return undefined;
      result[key] = inner;
    }
  }
  return result;
}
