import type { ActionDescription } from '../core/action-description.js';
import type { JsonSchema } from '../core/json-schema.js';
import { propertiesOf } from './schema-text.js';
import { forShell } from './shell-word.js';

/** A command line that calls the action, with values for its required parameters, or else for the first one. */
export function exampleCall({ name, target, parameters }: ActionDescription): string {
  const required: unknown[] = [parameters.required ?? []].flat();
  const fields = Object.entries(propertiesOf(parameters));
  const needed = fields.filter(([field]) => required.includes(field));
  const shown = (needed.length > 0 ? needed : fields.slice(0, 1))
    .map(([field, schema]) => ` --param ${forShell(`${field}=${sample(schema)}`)}`)
    .join('');
  return `fleet-manager call ${name}${target === 'cluster' ? ' --cluster TOKEN' : ''}${shown}`;
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
