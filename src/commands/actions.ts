import { describeActions } from '../composition.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { ActionDescription } from '../core/action-description.js';
import type { JsonSchema } from '../core/json-schema.js';
import { namedColumns } from './named-columns.js';
import { print, printUnchanged } from './output.js';
import { formatOf, type OutputOptions, tableStyle } from './output-options.js';
import { formatted } from './print-result.js';
import { type Column, formatTable } from './table/table.js';
import { descriptionOf, fieldLines, propertiesOf, typeText } from './schema-text.js';
import { UsageError } from './usage-error.js';

/** Prints the actions that this configuration serves. With a name, prints all details of that action. */
export async function actions(
  name: string | undefined,
  options: OutputOptions,
  source: ConfigurationSource,
): Promise<number> {
  const format = formatOf(options, 'table');
  const columns = namedColumns(COLUMNS, options.columns);
  const { plugins, environment, watchdogSeconds } = readConfiguration(source);
  const all = (await describeActions({ plugins, environment, watchdogSeconds })).describe();
  const chosen = name === undefined ? all : all.filter((each) => each.name === name);
  if (name !== undefined && chosen.length === 0) {
    throw new UsageError(
      `unknown action '${name}'; the actions are ${all.map((each) => each.name).join(', ')}`,
    );
  }
  const [first] = chosen;
  if (format !== 'table') printUnchanged(await formatted(name === undefined ? chosen : first, format));
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
  const required = [action.parameters.required ?? []].flat();
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
    `  fleet-manager call ${action.name}${action.target === 'cluster' ? ' --cluster TOKEN' : ''}${exampleOf(fields, required)}`,
  ].join('\n');
}

function exampleOf(fields: [string, JsonSchema][], required: unknown[]): string {
  const shown = fields.filter(([name]) => required.includes(name));
  return (shown.length > 0 ? shown : fields.slice(0, 1))
    .map(([name, schema]) => ` --param ${forShell(`${name}=${sample(schema)}`)}`)
    .join('');
}

function forShell(text: string): string {
  return /^[\w=.:/@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** An example value for `--param`. */
function sample(schema: JsonSchema): string {
  const [choice] = Array.isArray(schema.enum) ? schema.enum : [];
  const value: unknown = choice ?? schema.default;
  if (value !== undefined) return typeof value === 'string' ? value : JSON.stringify(value);
  switch ([schema.type].flat()[0]) {
    case 'integer':
    case 'number':
      return String(Number(schema.minimum ?? schema.maximum ?? 1));
    case 'boolean':
      return 'true';
    case 'array':
      return sample(propertiesOf({ properties: { items: schema.items } }).items ?? {});
    case 'object':
      return '{"region": "eu"}';
    default:
      return sampleText(schema);
  }
}

function sampleText({ format, pattern }: JsonSchema): string {
  const byFormat = new Map<unknown, string>([
    ['unit-name', 'web@1.service'],
    ['host-address', '10.0.0.1'],
  ]);
  if (typeof pattern !== 'string') return byFormat.get(format) ?? 'text';
  return (
    ['web@*.service', '0123456789abcdef'.repeat(2)].find((each) => new RegExp(pattern).test(each)) ?? 'text'
  );
}
