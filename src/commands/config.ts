import { problemsOfFiles } from '../composition.js';
import { printable } from '../lib/printable.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { describeSettings } from '../settings/describe-settings.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { Log } from '../telemetry/log.js';
import { print, printError } from './output.js';

/**
 * Prints the problems, also of the files that settings name, then every setting with its effective value and the source of that
 * value. Secrets are masked.
 */
export async function config({ json }: { json?: boolean }, source: ConfigurationSource): Promise<number> {
  const problems = await problemsOf(source);
  if (problems !== undefined) printError(`${problems}\n\n`);
  const settings = describeSettings(source);
  if (json) print(`${JSON.stringify(settings, null, 2)}\n`);
  else {
    for (const { name, value, from } of settings) {
      print(`${name.padEnd(24)} ${printable(value ?? '-').padEnd(40)} ${from}\n`);
    }
  }
  return problems === undefined ? 0 : 2;
}

async function problemsOf(source: ConfigurationSource): Promise<string | undefined> {
  try {
    const configuration = readConfiguration(source, { serving: true });
    const log = Log.create({ level: 'error', format: 'text' });
    const problems = await problemsOfFiles({ configuration, log });
    return problems.length === 0 ? undefined : new ConfigurationError(problems).message;
  } catch (error) {
    if (error instanceof ConfigurationError) return error.message;
    throw error;
  }
}
