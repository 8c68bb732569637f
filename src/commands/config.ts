import { describeActions, problemsOfFiles } from '../composition.js';
import { PluginError } from '../core/plugin-loader.js';
import { reasonOf } from '../lib/errors.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { describeSettings, type ShownSetting } from '../settings/describe-settings.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { describePluginSettings, pluginSettingsFrom } from '../settings/plugin-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { PluginConfiguration } from '../settings/settings.js';
import { Log } from '../telemetry/log.js';
import { print, printError, printUnchanged } from './output.js';
import { formatTable } from './table/table.js';

const COLUMNS = [{ title: 'SETTING' }, { title: 'VALUE' }, { title: 'FROM' }];

/**
 * Prints the problems, also of the files that settings name, then every setting with its effective value and the source of that
 * value, and those of plugins. Secrets are masked.
 */
export async function config({ json }: { json?: boolean }, source: ConfigurationSource): Promise<number> {
  const { problems, plugins } = await read(source);
  const ofPlugins = plugins === undefined ? NO_PLUGINS : await settingsOfPlugins(plugins);
  problems.push(...ofPlugins.problems);
  if (problems.length > 0) printError(`${new ConfigurationError(problems).message}\n\n`);
  const settings = [...describeSettings(source), ...ofPlugins.shown];
  if (json) print(`${JSON.stringify(settings, null, 2)}\n`);
  else {
    const rows = settings.map(({ name, value = '', from }) => [name, value, from]);
    // Never cut: a value is looked for in it.
    printUnchanged(formatTable(COLUMNS, rows, { headers: true, width: undefined, colours: false }));
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

/** The problems of the service's own settings and their files, and the settings that select plugins, if these have none. */
async function read(
  source: ConfigurationSource,
): Promise<{ problems: string[]; plugins: PluginConfiguration | undefined }> {
  try {
    const configuration = readConfiguration(source, { serving: true });
    const log = Log.create({ level: 'error', format: 'text' });
    return { problems: await problemsOfFiles({ configuration, log }), plugins: configuration };
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    return { problems: [...error.problems], plugins: error.plugins };
  }
}
