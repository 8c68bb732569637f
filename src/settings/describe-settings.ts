import { type ConfigurationSource, givenSettings } from './given-settings.js';
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
  return ALL_SETTINGS.map(({ name, about, secret, default: constant, defaultIn }) => {
    const given = values[name];
    const whenUnset = optionalText(defaultIn(environment));
    // An empty variable counts as unset.
    const fromEnvironment = Boolean(env[name] || (secret && env[`${name}_FILE`]));
    const from = fromEnvironment
      ? 'environment'
      : inFile.has(name)
        ? 'file'
        : whenUnset === undefined
          ? 'unset'
          : 'default';
    const value =
      given === undefined ? whenUnset : secret ? masked(asText(given)) : withoutCredentials(asText(given));
    return { name, value, from, default: optionalText(constant), about };
  });
}

function optionalText(value: string | number | undefined): string | undefined {
  return value === undefined ? undefined : asText(value);
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Hides a user name and password. No URL but that of a broker may contain them. */
function withoutCredentials(value: string): string {
  return value.replace(/^(\s*[a-z][a-z0-9+.-]*:\/\/).*@/i, '$1***@');
}

function masked(value: string): string {
  // The address of a broker is shown without its user and password. Anything that may not be an address is masked whole.
  const urls = value.split(',').map((each) => /^\s*(amqps?:\/\/)(.*@)?([^@]*)$/.exec(each));
  return urls.includes(null)
    ? '***'
    : urls.map((url) => `${url?.[1]}${url?.[2] === undefined ? '' : '***@'}${url?.[3]}`).join(',');
}
