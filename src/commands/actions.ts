import { describeActions } from '../composition.js';
import { type ConfigurationSource, readConfiguration } from '../configuration.js';
import type { ActionDescription } from '../runtime/catalogue.js';
import type { JsonSchema } from '../runtime/json-schema.js';
import { UsageError } from './usage-error.js';

/** Prints the actions that this configuration serves; with a name, all there is to know of one. */
export async function actions(
  name: string | undefined,
  { json }: { json: boolean },
  source: ConfigurationSource,
): Promise<number> {
  const all = (await describeActions(readConfiguration(source))).describe();
  const chosen = name === undefined ? all : all.filter((each) => each.name === name);
  if (chosen.length === 0) {
    throw new UsageError(
      `there is no action '${name}'; there are ${all.map((each) => each.name).join(', ')}`,
    );
  }
  const [first] = chosen;
  if (json) print(JSON.stringify(name === undefined ? chosen : first, null, 2));
  else if (name !== undefined && first !== undefined) print(page(first));
  else print(chosen.map(line).join('\n'));
  return 0;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function line({ name, effect, summary }: ActionDescription): string {
  return `${name.padEnd(20)} ${effect.padEnd(8)} ${summary}`;
}

function page(action: ActionDescription): string {
  const fields = Object.entries(propertiesOf(action.parameters));
  const required = [action.parameters.required ?? []].flat();
  return [
    `${action.name}: ${action.summary}`,
    '',
    `  effect       ${action.effect}`,
    `  cluster      ${{ cluster: 'needed (etcd_token)', optional: 'optional (etcd_token)', none: 'none' }[action.target]}`,
    `  redelivered  ${action.redelivery === 'refuse' ? 'answered outcome_unknown' : 'run again'}`,
    `  time limit   ${action.timeout_ms / 1_000} s`,
    '',
    fields.length === 0 ? 'It has no parameters.' : 'Parameters:',
    ...fields.map(([name, schema]) => parameterLine(name, schema, required.includes(name))),
    '',
    'Example:',
    '',
    `  fleet-manager call ${action.name}${action.target === 'cluster' ? ' --cluster TOKEN' : ''}${exampleOf(fields, required)}`,
  ].join('\n');
}

function parameterLine(name: string, schema: JsonSchema, required: boolean): string {
  const type = [schema.type].flat().join(' or ');
  const choices = Array.isArray(schema.enum) ? `: ${schema.enum.join(', ')}` : '';
  const standard = schema.default === undefined ? '' : `, default ${JSON.stringify(schema.default)}`;
  return `  ${name.padEnd(16)} ${type}${choices}${required ? ', required' : ''}${standard}\n    ${String(schema.description)}`;
}

function exampleOf(fields: [string, JsonSchema][], required: unknown[]): string {
  const shown = fields.filter(([name]) => required.includes(name));
  return (shown.length > 0 ? shown : fields.slice(0, 1))
    .map(([name, schema]) => ` --param ${name}=${sample(schema)}`)
    .join('');
}

function sample(schema: JsonSchema): string {
  const [choice] = Array.isArray(schema.enum) ? schema.enum : [];
  if (choice !== undefined) return String(choice);
  if (schema.default !== undefined) return JSON.stringify(schema.default);
  const byFormat: Record<string, string> = { 'unit-name': 'web@1.service', 'host-address': '10.0.0.1' };
  if (typeof schema.format === 'string' && byFormat[schema.format] !== undefined)
    return byFormat[schema.format] ?? '';
  switch ([schema.type].flat()[0]) {
    case 'integer':
    case 'number':
      return String(schema.minimum ?? 1);
    case 'boolean':
      return 'true';
    case 'array':
      return sample(propertiesOf({ properties: { items: schema.items } }).items ?? {});
    case 'object':
      return `'{"region": "eu"}'`;
    default:
      return "'web@*.service'";
  }
}

function propertiesOf(schema: JsonSchema): Record<string, JsonSchema> {
  return { ...(schema.properties as Record<string, JsonSchema> | undefined) };
}
