import { describeActions, problemOfServed } from '../composition.js';
import type { Catalogue } from '../core/catalogue.js';
import { UnknownActionError } from '../core/plugin-loader.js';
import { reasonOf } from '../lib/errors.js';
import type { Configuration } from '../settings/settings.js';
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
}: Pick<Configuration, 'plugins' | 'environment' | 'watchdogSeconds'>): Promise<{
  finding: Finding;
  catalogue: Catalogue | undefined;
}> {
  try {
    const catalogue = await describeActions({ plugins, environment, watchdogSeconds });
    const contradiction = problemOfServed(catalogue, plugins);
    if (contradiction !== undefined) return { finding: failed(contradiction), catalogue: undefined };
    const actions = catalogue.describe().map(({ name }) => name);
    const { packages } = catalogue;
    const more = packages.length === 0 ? [] : [`${counted(packages.length, 'package')}: ${listed(packages)}`];
    return { finding: ok(`${counted(actions.length, 'action')}: ${listed(actions)}`, ...more), catalogue };
  } catch (error) {
    const remedy =
      error instanceof UnknownActionError ? 'check ACTIONS, PLUGIN_PATHS and PLUGINS' : undefined;
    return { finding: failed(reasonOf(error), remedy), catalogue: undefined };
  }
}
