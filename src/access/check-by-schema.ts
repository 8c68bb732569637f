import { closestMatch } from '../lib/closest-match.js';
import type { Path } from '../lib/placed-yaml.js';

/** The part of JSON Schema (2020-12) that the files of this service need. */
export interface Schema {
  readonly $schema?: string;
  readonly title?: string;
  readonly description?: string;
  readonly type: 'object' | 'array' | 'string';
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
  /** Exactly one of these properties. */
  readonly oneOf?: readonly { readonly required: readonly [string] }[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  /** What `pattern` asks for, for people. No keyword of JSON Schema: `publishedSchema` leaves it out. */
  readonly form?: string;
}

/** What is wrong with a value, and where. No problem quotes a value, which may be a secret in the wrong place. */
export interface SchemaProblem {
  readonly path: Path;
  readonly message: string;
  /** Whether the key is wrong, and not its value. */
  readonly ofKey?: boolean;
}

const KINDS = { object: 'a map', array: 'a list', string: 'a text' } as const;

/** The problems of a value that was read from JSON or YAML; empty: it is as the schema says. */
export function problemsBySchema(value: unknown, schema: Schema, path: Path = []): SchemaProblem[] {
  if (kindOf(value) !== schema.type) {
    const quoted = schema.type === 'string' && ['number', 'boolean'].includes(typeof value);
    return [{ path, message: `must be ${KINDS[schema.type]}${quoted ? ': put it in quotes' : ''}` }];
  }
  if (typeof value === 'string') return textProblems(value, schema).map((message) => ({ path, message }));
  if (Array.isArray(value)) return listProblems(value, schema, path);
  return mapProblems(new Map(Object.entries(value as object)), schema, path);
}

/** The schema as it is published. */
export function publishedSchema({ form: _form, properties, items, ...rest }: Schema): Schema {
  return {
    ...rest,
    ...(properties !== undefined && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([name, each]) => [name, publishedSchema(each)]),
      ),
    }),
    ...(items !== undefined && { items: publishedSchema(items) }),
  };
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return value === null ? 'null' : typeof value;
}

function textProblems(text: string, { enum: words, pattern, form = 'has another form' }: Schema): string[] {
  if (words !== undefined && !words.includes(text)) return [`must be ${words.join(' or ')}`];
  return pattern === undefined || new RegExp(pattern).test(text) ? [] : [form];
}

function listProblems(list: readonly unknown[], schema: Schema, path: Path): SchemaProblem[] {
  const { items, minItems = 0, maxItems = Infinity } = schema;
  if (list.length < minItems) return [{ path, message: 'must not be empty' }];
  if (list.length > maxItems) return [{ path, message: `must have at most ${maxItems} entries` }];
  return items === undefined
    ? []
    : list.flatMap((each, index) => problemsBySchema(each, items, [...path, index]));
}

function mapProblems(map: ReadonlyMap<string, unknown>, schema: Schema, path: Path): SchemaProblem[] {
  const { properties = {}, required = [], oneOf = [] } = schema;
  const choices = oneOf.map(({ required: [name] }) => name);
  const given = choices.filter((name) => map.has(name));
  return [
    ...required.filter((name) => !map.has(name)).map((name) => ({ path, message: `needs ${name}` })),
    ...(choices.length > 0 && given.length !== 1
      ? [{ path, message: `needs ${choices.join(' or ')}${given.length > 1 ? ', not both' : ''}` }]
      : []),
    ...[...map].flatMap(([name, value]): SchemaProblem[] => {
      const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (known !== undefined) return problemsBySchema(value, known, [...path, name]);
      return [{ path: [...path, name], message: unknownKey(name, Object.keys(properties)), ofKey: true }];
    }),
  ];
}

function unknownKey(name: string, known: readonly string[]): string {
  const close = closestMatch(name.slice(0, 64), known);
  return `is unknown${close === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${close}?`}`;
}
