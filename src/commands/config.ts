import { printable } from '../lib/printable.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { describeSettings } from '../settings/describe-settings.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print, printError } from './output.js';

/** Prints the problems, then every setting with its effective value and the source of that value. Secrets are masked. */
export function config({ json }: { json?: boolean }, source: ConfigurationSource): number {
  const problems = problemsOf(source);
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

function problemsOf(source: ConfigurationSource): string | undefined {
  try {
    readConfiguration(source, { serving: true });
    return undefined;
  } catch (error) {
    if (error instanceof ConfigurationError) return error.message;
    throw error;
  }
}
