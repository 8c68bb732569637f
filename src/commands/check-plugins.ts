import { describeActions, problemOfServed } from '../composition.js';
import type { Catalogue } from '../core/catalogue.js';
import { UnknownActionError } from '../core/plugin-loader.js';
import { reasonOf } from '../lib/errors.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { pluginSettingsFrom } from '../settings/plugin-settings.js';
import type { PluginConfiguration } from '../settings/settings.js';
import { counted, failed, type Finding, listed, ok } from './finding.js';

/**
 * Checks whether the plugins can be served. The plugin loader limits the time of their import, and the watchdog ends the
 * process when one blocks it.
 * @returns also the catalogue of served actions; undefined: the plugins cannot be served
 */
export async function checkPlugins({
  plugins,
  environment,
  watchdogSeconds,
  pluginSettings,
}: PluginConfiguration): Promise<{
  finding: Finding;
  catalogue: Catalogue | undefined;
}> {
  try {
    const catalogue = await describeActions({
      plugins,
      environment,
      watchdogSeconds,
      settings: pluginSettingsFrom(pluginSettings),
    });
    const contradiction = problemOfServed(catalogue, plugins);
    if (contradiction !== undefined) return { finding: failed(contradiction), catalogue: undefined };
    const actions = catalogue.describe().map(({ name }) => name);
    const { packages } = catalogue;
    const more = packages.length === 0 ? [] : [`${counted(packages.length, 'package')}: ${listed(packages)}`];
    const found = ok(`${counted(actions.length, 'action')}: ${listed(actions)}`, ...more);
    if (catalogue.undeclared.length === 0) return { finding: found, catalogue };
    const unknown = catalogue.undeclared.map(({ variable, meant }) => {
      const advice = meant === undefined ? 'unset it' : `did you mean ${meant}?`;
      return `the environment has ${variable}, which no action declares: ${advice}`;
    });
    return { finding: { result: 'warning', lines: [...found.lines, ...unknown] }, catalogue };
  } catch (error) {
    if (error instanceof ConfigurationError)
      return { finding: { result: 'FAILED', lines: error.problems }, catalogue: undefined };
    const remedy =
      error instanceof UnknownActionError ? 'check ACTIONS, PLUGIN_PATHS and PLUGINS' : undefined;
    return { finding: failed(reasonOf(error), remedy), catalogue: undefined };
  }
}
