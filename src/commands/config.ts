import {
  ConfigurationError,
  type ConfigurationSource,
  describeSettings,
  readConfiguration,
} from '../configuration.js';

/** Prints every setting with its effective value and where that comes from, secrets masked; then what is wrong. */
export function config({ json }: { json?: boolean }, source: ConfigurationSource): number {
  const settings = describeSettings(source);
  if (json) process.stdout.write(`${JSON.stringify(settings, null, 2)}\n`);
  else {
    for (const { name, value, from } of settings) {
      process.stdout.write(`${name.padEnd(24)} ${String(value ?? '-').padEnd(40)} ${from}\n`);
    }
  }
  try {
    readConfiguration(source, { serving: true });
    return 0;
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    return 2;
  }
}
