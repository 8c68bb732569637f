import { type ConfigurationSource, filesOf, givenSettings } from './given-settings.js';
import { maskedIfUrl, maskedUrl } from '../lib/masked-url.js';
import type { Setting } from './setting.js';
import { ALL_SETTINGS } from './settings.js';

/** One setting as `fleet-manager config` shows it. */
export interface ShownSetting {
  name: string;
  /** The effective value; masked when it is a secret. */
  value: string | undefined;
  from: 'environment' | 'file' | 'default' | 'unset';
  /** The constant default; undefined: it has none, or `about` describes it. */
  default: string | undefined;
  about: string;
}

/** Every setting with its value and the source of that value. Secrets are masked. Problems are not reported here. */
export function describeSettings(source: ConfigurationSource): ShownSetting[] {
  const { env } = source;
  const { values, environment, inFile } = givenSettings(source, []);
  return ALL_SETTINGS.map((setting) => {
    const { name, about, default: constant, defaultIn } = setting;
    const given = values[name];
    const whenUnset = optionalText(defaultIn(environment));
    // An empty variable counts as unset.
    const fromEnvironment = Boolean(env[name]?.trim() || filesOf(source, setting).length > 0);
    const from = fromEnvironment
      ? 'environment'
      : inFile.has(name)
        ? 'file'
        : whenUnset === undefined
          ? 'unset'
          : 'default';
    const value = given === undefined ? whenUnset : shownValue(given, setting);
    return { name, value, from, default: optionalText(constant), about };
  });
}

function optionalText(value: string | number | undefined): string | undefined {
  return value === undefined ? undefined : asText(value);
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The value of a setting as it may be shown: without secrets, also when its form is wrong. */
export function shownValue(value: unknown, { name, secret }: Pick<Setting, 'name' | 'secret'>): string {
  const text = asText(value);
  if (!secret) return name.endsWith('_URL') ? maskedUrl(text) : maskedIfUrl(text);
  // The address of a broker is shown without its user and password. Anything that may not be an address is masked whole.
  const urls = text.split(',');
  return urls.every((url) => /^\s*amqps?:\/\//.test(url)) ? urls.map(maskedUrl).join(',') : '***';
}
