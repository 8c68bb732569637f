import { describeActions } from '../composition.js';
import type { JsonSchema } from '../core/json-schema.js';
import { reasonOf } from '../lib/errors.js';
import type { Configuration } from '../settings/settings.js';
import { printError } from './output.js';

/** The schema of the parameters of an action, in which secrets are marked; undefined: it is not known. */
export type MarksOf = (action: string | undefined) => JsonSchema | undefined;

/** Loads the actions, also those that are not served; says so when it cannot. */
export async function secretMarks({
  plugins,
  environment,
  watchdogSeconds,
}: Pick<Configuration, 'plugins' | 'environment' | 'watchdogSeconds'>): Promise<MarksOf> {
  try {
    const all = { ...plugins, readOnly: false, only: undefined };
    const catalogue = await describeActions({ plugins: all, environment, watchdogSeconds });
    return (action) => (action === undefined ? undefined : catalogue.find(action)?.description.parameters);
  } catch (error) {
    printError(
      `warning: the plugins cannot be loaded, so that secrets are known by their names only: ${reasonOf(error)}\n`,
    );
    return () => undefined;
  }
}
