import { describeActions } from '../composition.js';
import { PluginError } from '../core/plugin-loader.js';
import { reasonOf } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { describeSettings, type ShownSetting } from '../settings/describe-settings.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { describePluginSettings, pluginSettingsFrom } from '../settings/plugin-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { PluginConfiguration } from '../settings/settings.js';
import { print, printError } from './output.js';

/**
 * Prints the problems, then every setting with its effective value and the source of that value, and those of plugins. Secrets are
 * masked.
 */
export async function config({ json }: { json?: boolean }, source: ConfigurationSource): Promise<number> {
  const { problems, plugins } = read(source);
  const ofPlugins = plugins === undefined ? NO_PLUGINS : await settingsOfPlugins(plugins);
  problems.push(...ofPlugins.problems);
  if (problems.length > 0) printError(`${new ConfigurationError(problems).message}\n\n`);
  const settings = [...describeSettings(source), ...ofPlugins.shown];
  if (json) print(`${JSON.stringify(settings, null, 2)}\n`);
  else {
    for (const { name, value, from } of settings) {
      print(`${name.padEnd(24)} ${printable(value ?? '-').padEnd(40)} ${from}\n`);
    }
  }
  return problems.length === 0 ? 0 : 2;
}

interface PluginSettings {
  shown: readonly ShownSetting[];
  problems: readonly string[];
}

const NO_PLUGINS: PluginSettings = { shown: [], problems: [] };

async function settingsOfPlugins(configuration: PluginConfiguration): Promise<PluginSettings> {
  const { pluginSettings } = configuration;
  try {
    const { settings } = await describeActions(configuration);
    const declared = [...settings.served.values()].flatMap(({ all }) => all);
    return {
      shown: describePluginSettings(pluginSettings, declared),
      problems: pluginSettingsFrom(pluginSettings)(settings).problems,
    };
  } catch (error) {
    return { shown: [], problems: error instanceof PluginError ? error.problems : [reasonOf(error)] };
  }
}

/** The problems of the service's own settings, and the settings that select plugins, if these have none. */
function read(source: ConfigurationSource): { problems: string[]; plugins: PluginConfiguration | undefined } {
  try {
    return { problems: [], plugins: readConfiguration(source, { serving: true }) };
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    return { problems: [...error.problems], plugins: error.plugins };
  }
}
