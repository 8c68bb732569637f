import type { ConfigurationSource } from './given-settings.js';
import { givenSettings } from './given-settings.js';
import type { Setting } from './setting.js';
import { type Configuration, SETTINGS } from './settings.js';

/** How to log. Never throws: it is needed to log why the other settings cannot be used, and an invalid one has its default. */
export function logSettings(source: ConfigurationSource): Configuration['log'] {
  const { values, environment } = givenSettings(source, []);
  const valueOf = <Value>({ name, read }: Setting<string, string, Value>): Value => {
    const context = { environment, contentOf: () => undefined };
    try {
      return read(values[name], context).value;
    } catch {
      return read(undefined, context).value;
    }
  };
  const { level, format } = SETTINGS.log;
  return { level: valueOf(level), format: valueOf(format) };
}
