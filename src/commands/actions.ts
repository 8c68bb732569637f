import { describeActions } from '../composition.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { ActionDescription } from '../core/action-description.js';
import { actionSection, actionsPage } from './action-docs.js';
import { clientTypes } from './client-types.js';
import { exampleCall } from './example-call.js';
import { namedColumns } from './named-columns.js';
import { print, printUnchanged } from './output.js';
import { formatOf, type OutputOptions, tableStyle } from './output-options.js';
import { formatted } from './print-result.js';
import { type Column, formatTable } from './table/table.js';
import { descriptionOf, fieldLines, propertiesOf, typeText } from './schema-text.js';
import { UsageError } from './usage-error.js';

/** At most one of `json`, `docs` and `types`. */
export interface ActionsOptions extends OutputOptions {
  docs?: boolean;
  types?: boolean;
}

/** Prints the actions that this configuration serves. With a name, prints all details of that action. */
export async function actions(
  name: string | undefined,
  options: ActionsOptions,
  source: ConfigurationSource,
): Promise<number> {
  const format = formatOf(options, 'table');
  const columns = namedColumns(COLUMNS, options.columns);
  const { plugins, environment, watchdogSeconds } = readConfiguration(source);
  const catalogue = await describeActions({ plugins, environment, watchdogSeconds });
  const all = catalogue.describe();
  const chosen = name === undefined ? all : all.filter((each) => each.name === name);
  if (name !== undefined && chosen.length === 0) {
    throw new UsageError(
      `unknown action '${name}'; the actions are ${all.map((each) => each.name).join(', ')}; of those of plugins it knows what PLUGIN_PATHS and PLUGINS name`,
    );
  }
  const [first] = chosen;
  if (options.types) print(clientTypes(await withoutOwn(chosen)));
  else if (options.docs) {
    const settingsOf = (action: string) => catalogue.settings.served.get(action)?.all ?? [];
    const isOne = name !== undefined && first !== undefined;
    print(isOne ? actionSection(first, settingsOf(name)) : actionsPage(chosen, settingsOf));
  } else if (format !== 'table') printUnchanged(await formatted(name === undefined ? chosen : first, format));
  else if (name !== undefined && first !== undefined) print(`${detailsOf(first)}\n`);
  else {
    const rows = chosen.map((action) => columns.map(({ text }) => text(action)));
    const style = tableStyle(options, source.env);
    // Programs that read a line for each action know no titles.
    const headers = style.headers && (process.stdout.isTTY || options.output === 'table');
    printUnchanged(formatTable(columns, rows, { ...style, headers }));
  }
  return 0;
}

/**
 * Those that do not come with the service: the client knows the types of the others.
 * @throws UsageError when there are none
 */
async function withoutOwn(chosen: readonly ActionDescription[]): Promise<readonly ActionDescription[]> {
  const defaults = readConfiguration({ env: {}, directory: '/nonexistent' });
  const own = new Set((await describeActions(defaults)).describe().map(({ name }) => name));
  const others = chosen.filter(({ name }) => !own.has(name));
  if (others.length > 0) return others;
  throw new UsageError(
    chosen.length === 1
      ? `${chosen[0]?.name} comes with the service: fleet-manager/client has its types`
      : 'there are no actions but those of the service, whose types fleet-manager/client has: set PLUGIN_PATHS or PLUGINS',
  );
}

interface ActionColumn extends Column {
  text: (action: ActionDescription) => string;
}

const COLUMNS: readonly ActionColumn[] = [
  { title: 'ACTION', text: ({ name }) => name },
  { title: 'EFFECT', text: ({ effect }) => effect },
  { title: 'SUMMARY', text: ({ summary }) => summary },
];

function detailsOf(action: ActionDescription): string {
  const fields = Object.entries(propertiesOf(action.parameters));
  return [
    `${action.name}: ${action.summary}`,
    '',
    `  effect       ${action.effect}`,
    `  cluster      ${{ cluster: 'required (etcd_token)', optional: 'optional (etcd_token)', none: 'none' }[action.target]}`,
    `  redelivered  ${action.redelivery === 'refuse' ? 'not run again (outcome_unknown)' : 'run again'}`,
    `  time limit   ${action.timeout_ms / 1_000} s`,
    '',
    fields.length === 0 ? 'No parameters.' : 'Parameters:',
    ...fieldLines(action.parameters, { required: 'required' }),
    '',
    `Result: ${typeText(action.result)}`,
    ...[descriptionOf(action.result)].filter((each) => each !== '').map((each) => `  ${each}`),
    ...fieldLines(action.result, { optional: 'optional' }),
    '',
    'Example:',
    '',
    `  ${exampleCall(action)}`,
  ].join('\n');
}
