import { describeActions } from '../composition.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { ActionDescription } from '../core/action-description.js';
import { actionSection, actionsPage } from './action-docs.js';
import { clientTypes } from './client-types.js';
import { exampleCall } from './example-call.js';
import { print } from './output.js';
import { descriptionOf, fieldLines, propertiesOf, typeText } from './schema-text.js';
import { UsageError } from './usage-error.js';

/** What is printed instead of text for people in a terminal; at most one. */
export interface ActionsOptions {
  json?: boolean;
  docs?: boolean;
  types?: boolean;
}

/** Prints the actions that this configuration serves. With a name, prints all details of that action. */
export async function actions(
  name: string | undefined,
  { json, docs, types }: ActionsOptions,
  source: ConfigurationSource,
): Promise<number> {
  const { plugins, environment, watchdogSeconds } = readConfiguration(source);
  const all = (await describeActions({ plugins, environment, watchdogSeconds })).describe();
  const chosen = name === undefined ? all : all.filter((each) => each.name === name);
  if (name !== undefined && chosen.length === 0) {
    throw new UsageError(
      `unknown action '${name}'; the actions are ${all.map((each) => each.name).join(', ')}`,
    );
  }
  const [first] = chosen;
  if (json) print(`${JSON.stringify(name === undefined ? chosen : first, null, 2)}\n`);
  else if (types) print(clientTypes(await withoutOwn(chosen)));
  else if (docs)
    print(name !== undefined && first !== undefined ? actionSection(first) : actionsPage(chosen));
  else if (name !== undefined && first !== undefined) print(`${detailsOf(first)}\n`);
  else print(`${chosen.map(summaryLine).join('\n')}\n`);
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

function summaryLine({ name, effect, summary }: ActionDescription): string {
  return `${name.padEnd(20)} ${effect.padEnd(8)} ${summary}`;
}

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
