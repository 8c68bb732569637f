import { problemsOfPluginSettings } from '../composition.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';

/**
 * Reads the configuration of the service. When it has problems, the plugins are loaded too, where they are known, so that the
 * problems of their settings are reported at the same time; otherwise they are found when the plugins are loaded to be served.
 * @throws ConfigurationError that lists all problems
 */
export async function readServedConfiguration(source: ConfigurationSource): Promise<Configuration> {
  try {
    return readConfiguration(source, { serving: true });
  } catch (error) {
    if (!(error instanceof ConfigurationError) || error.plugins === undefined) throw error;
    const more = await problemsOfPluginSettings(error.plugins);
    throw new ConfigurationError([...error.problems, ...more], error.plugins);
  }
}
