import { type JsonSchema, schemaOfField } from '../../core/json-schema.js';
import { stringifyExactly } from '../../lib/exact-json.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { UsageError } from '../usage-error.js';
import type { Column } from './table.js';

/** A column of a result. */
export interface ResultColumn extends Column {
  /** The field, by the names on the way to it; undefined: the keys of a map. */
  path: readonly string[] | undefined;
}

/** A row of a result, with its key where the rows are a map. */
export interface ResultRow {
  key: string | undefined;
  value: unknown;
}

const KEY_TITLE = 'NAME';
/** Fields of these names have states. */
const STATE = /(state|status|severity)$/i;
/** How many rows are looked at for fields that no schema names. */
const MOST_LOOKED_AT = 1_000;

/**
 * The columns of a list or a map: those that the fields declare (`x-column`), else one for each field.
 * @param schema that of a row; empty: it is not known
 * @param keyed the schema of the map; undefined: it is a list
 */
export function columnsOf(
  schema: JsonSchema,
  rows: readonly ResultRow[],
  keyed?: JsonSchema,
): ResultColumn[] {
  const key: ResultColumn[] =
    keyed === undefined ? [] : [{ title: titleIn(keyed) ?? KEY_TITLE, path: undefined }];
  const declared = declaredColumns(schema);
  return [...key, ...(declared.length > 0 ? declared : allColumns(schema, rows))];
}

/**
 * The columns that `--columns` asks for: each by its title, or by its field, `disk.used_percent`.
 * @throws UsageError for a name that no row can have
 */
export function chosenColumns(
  names: readonly string[],
  columns: readonly ResultColumn[],
  schema: JsonSchema,
  rows: readonly ResultRow[],
): ResultColumn[] {
  return names.map((name) => {
    const titled = columns.find(({ title }) => title.toLowerCase() === name.toLowerCase());
    if (titled !== undefined) return titled;
    const path = name.split('.');
    const isKnown = schema.type !== undefined || rows.length > 0;
    const field = fieldAt(schema, path);
    if (isKnown && field === undefined && !rows.some(({ value }) => valueAt(value, path) !== undefined)) {
      const fields = allColumns(schema, rows).map((each) => each.path?.join('.'));
      const known = [...new Set([...columns.map(({ title }) => title), ...fields])];
      throw new UsageError(`--columns: there is no column '${name}'; there are ${known.join(', ')}`);
    }
    return columnOf(path, field ?? {});
  });
}

/** The text of a cell; empty: there is no value. */
export function textIn({ key, value }: ResultRow, { path }: ResultColumn): string {
  return path === undefined ? (key ?? '') : shortText(valueAt(value, path));
}

/** A value as a short text: `eu,us` for a list, `region=eu,role=web` for a map; empty when there is none. */
export function shortText(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  if (typeof value !== 'object') return stringifyExactly(value);
  if (Array.isArray(value))
    return value.every(isScalar) ? value.map(shortText).join(',') : stringifyExactly(value);
  const entries = Object.entries(value);
  if (!entries.every(([, each]) => isScalar(each))) return stringifyExactly(value);
  return entries
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, each]) => `${name}=${shortText(each)}`)
    .join(',');
}

/** `PRIMARY_IP` of `primaryIP`. */
export function titleOf(path: readonly string[], schema: JsonSchema): string {
  const name = path.join('.');
  return titleIn(schema) ?? name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

export function isStateName(path: readonly string[]): boolean {
  return STATE.test(path.at(-1) ?? '');
}

function isScalar(value: unknown): boolean {
  return typeof value !== 'object' || value === null;
}

function titleIn({ 'x-column': title }: JsonSchema): string | undefined {
  return typeof title === 'string' ? title : undefined;
}

function declaredColumns(schema: JsonSchema, path: readonly string[] = []): ResultColumn[] {
  return Object.entries(fieldsOf(schema.properties)).flatMap(([name, value]) => {
    const field = fieldsOf(value);
    const at = [...path, name];
    return titleIn(field) === undefined ? declaredColumns(field, at) : [columnOf(at, field)];
  });
}

/** With what rows have besides, as results need not be as the schema says. */
function allColumns(schema: JsonSchema, rows: readonly ResultRow[]): ResultColumn[] {
  const names = new Set(Object.keys(fieldsOf(schema.properties)));
  for (const { value } of rows.slice(0, MOST_LOOKED_AT))
    if (!Array.isArray(value)) for (const name of Object.keys(fieldsOf(value))) names.add(name);
  return [...names].map((name) => columnOf([name], schemaOfField(schema, name) ?? {}));
}

function columnOf(path: readonly string[], field: JsonSchema): ResultColumn {
  const [type, ...others] = [field.type].flat().filter((each) => each !== 'null');
  return {
    title: titleOf(path, field),
    path,
    isState: isStateName(path),
    isNumber: others.length === 0 && (type === 'integer' || type === 'number'),
  };
}

function fieldAt(schema: JsonSchema, path: readonly string[]): JsonSchema | undefined {
  return path.reduce<JsonSchema | undefined>((at, name) => at && schemaOfField(at, name), schema);
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, name) => {
    const fields = fieldsOf(at);
    return Object.hasOwn(fields, name) ? fields[name] : undefined;
  }, value);
}
