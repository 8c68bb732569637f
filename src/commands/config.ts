import { ConfigurationError } from '../settings/configuration-error.js';
import { describeSettings } from '../settings/describe-settings.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print, printError, printUnchanged } from './output.js';
import { formatTable } from './table/table.js';

const COLUMNS = [{ title: 'SETTING' }, { title: 'VALUE' }, { title: 'FROM' }];

/** Prints the problems, then every setting with its effective value and the source of that value. Secrets are masked. */
export function config({ json }: { json?: boolean }, source: ConfigurationSource): number {
  const problems = problemsOf(source);
  if (problems !== undefined) printError(`${problems}\n\n`);
  const settings = describeSettings(source);
  if (json) print(`${JSON.stringify(settings, null, 2)}\n`);
  else {
    const rows = settings.map(({ name, value = '', from }) => [name, value, from]);
    // Never cut: a value is looked for in it.
    printUnchanged(formatTable(COLUMNS, rows, { headers: true, width: undefined, colours: false }));
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
