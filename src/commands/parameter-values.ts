import type { ActionDescription } from '../core/action-description.js';
import type { JsonSchema } from '../core/json-schema.js';
import { MAX_ELEMENTS, parseBounded } from '../lib/bounded-json.js';
import { reasonOf } from '../lib/errors.js';
import { exactInteger, isTooLong, MAX_INTEGER_BYTES } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';
import { UsageError } from './usage-error.js';

/**
 * Combines the parameters of `--params JSON` and `--param NAME=VALUE`. Each value is parsed by the type of its field.
 * @param action undefined: it is not known here. Values that are valid JSON are then parsed, others are texts.
 * @throws UsageError that names the invalid option
 */
export function parametersOf(
  action: ActionDescription | undefined,
  given: { params: string | undefined; param: readonly string[] },
): Record<string, unknown> {
  // A map, because a name such as __proto__ is special in an object.
  const parameters = new Map(given.params === undefined ? [] : Object.entries(objectOf(given.params)));
  for (const each of given.param) {
    const [name, value] = split(each);
    const earlier = parameters.get(name);
    const parsed =
      action === undefined
        ? jsonOrText(`--param ${name}`, value)
        : valueOf(name, value, fieldOf(action, name));
    // Repeated list options are joined: --param nodes=a --param nodes=b
    const both = Array.isArray(earlier) && Array.isArray(parsed);
    parameters.set(name, both ? [...(earlier as unknown[]), ...(parsed as unknown[])] : parsed);
  }
  return Object.fromEntries(parameters);
}

function objectOf(json: string): Record<string, unknown> {
  const value = jsonOf('--params', json);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new UsageError('--params must be a JSON object, such as \'{"name": "web@*.service"}\'');
}

/** As the service reads it: large integers keep their digits, and what it would refuse is refused. */
function jsonOf(option: string, text: string): unknown {
  try {
    return parseBounded(Buffer.from(text), { maxElements: MAX_ELEMENTS });
  } catch (error) {
    throw new UsageError(`${option} cannot be read: ${reasonOf(error)}: ${text}`);
  }
}

function jsonOrText(option: string, text: string): unknown {
  return isJson(text) ? jsonOf(option, text) : text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function split(option: string): [name: string, value: string] {
  const at = option.indexOf('=');
  if (at < 1) throw new UsageError(`--param ${option}: write it as NAME=VALUE`);
  return [option.slice(0, at), option.slice(at + 1)];
}

function fieldOf({ name: action, parameters }: ActionDescription, name: string): JsonSchema {
  const fields = fieldsOf(parameters.properties);
  const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (field !== undefined) return fieldsOf(field);
  const known = Object.keys(fields);
  throw new UsageError(
    `${action} has no parameter '${name}'; its parameters: ${known.length === 0 ? 'none' : known.join(', ')}`,
  );
}

function valueOf(name: string, text: string, schema: JsonSchema): unknown {
  const [type] = [schema.type].flat().filter((each) => each !== 'null');
  switch (type) {
    case 'string':
      return text;
    case 'number':
    case 'integer': {
      const value = /^-?\d+$/.test(text) ? exactInteger(text) : Number(text);
      if (text.trim() === '' || (typeof value === 'number' && !Number.isFinite(value)))
        throw new UsageError(`--param ${name}: '${text}' is not a number`);
      if (typeof value === 'bigint' && isTooLong(value))
        throw new UsageError(`--param ${name}: an integer has at most ${MAX_INTEGER_BYTES} bytes`);
      return value;
    }
    case 'boolean':
      if (text !== 'true' && text !== 'false')
        throw new UsageError(`--param ${name}: '${text}' is neither true nor false`);
      return text === 'true';
    case 'array':
      if (text.trimStart().startsWith('[')) return jsonOf(`--param ${name}`, text);
      return text.split(',').map((each) => valueOf(name, each, fieldsOf(schema.items)));
    default:
      return jsonOf(`--param ${name}`, text);
  }
}
