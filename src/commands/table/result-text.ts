import { type JsonSchema, schemaOfField, schemaOfItem } from '../../core/json-schema.js';
import { stringifyExactly } from '../../lib/exact-json.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { printable, printableLines } from '../../lib/printable.js';
import { UsageError } from '../usage-error.js';
import {
  chosenColumns,
  columnsOf,
  isStateName,
  type ResultColumn,
  type ResultRow,
  shortText,
  textIn,
  titleOf,
} from './result-columns.js';
import { formatTable, hasRoom, type TableStyle } from './table.js';
import { padded, widthOf, wrapped } from './text-width.js';
import { painted, toneOf } from './tone.js';

export interface ResultStyle extends TableStyle {
  /** Those to show; undefined: those that the action declares. */
  columns: readonly string[] | undefined;
}

/** A pair of an object: the title, the text, and whether it is a state. */
interface Pair {
  title: string;
  text: string;
  isState: boolean;
}

const GAP = '  ';
/** In a narrower terminal texts are not wrapped: the terminal does. */
const MIN_WRAPPED = 20;

/**
 * A result as a person reads it: a list or a map as a table, an object as `KEY  value` lines, a string as it is. What the result is
 * decides; the schema names the columns. Nothing in it can control a terminal.
 * @param schema that of the result; undefined: it is not known
 * @returns empty for an empty list
 * @throws UsageError for a column that the result does not have
 */
export function resultText(value: unknown, schema: JsonSchema | undefined, style: ResultStyle): string {
  if (typeof value === 'string') return lineEnded(printableLines(value));
  if (typeof value !== 'object' || value === null) return `${stringifyExactly(value)}\n`;
  const rows = rowsOf(value, schema ?? {});
  if (rows !== undefined) return rowsText(rows, style);
  return Array.isArray(value)
    ? value.map((each) => `${printable(shortText(each))}\n`).join('')
    : objectText(fieldsOf(value), schema ?? {}, style);
}

/**
 * Checks `--columns` before anything is sent.
 * @throws UsageError for a column that no result of this schema has
 */
export function checkColumns(columns: readonly string[], schema: JsonSchema): void {
  const rows = rowsSchema(schema);
  const type = [schema.type].flat().find((each) => each !== 'null');
  if (rows !== undefined) chosenColumns(columns, columnsOf(rows.row, [], rows.keyed), rows.row, []);
  else if (type === 'object') chosenColumns(columns, columnsOf(schema, []), schema, []);
  else if (type !== undefined) throw new UsageError('--columns: the result of this action has no columns');
}

/** The columns of results of this schema, by their titles. */
export function columnTitles(schema: JsonSchema): string[] {
  const rows = rowsSchema(schema);
  const columns = rows === undefined ? columnsOf(schema, []) : columnsOf(rows.row, [], rows.keyed);
  return columns.map(({ title }) => title);
}

interface Rows {
  rows: readonly ResultRow[];
  row: JsonSchema;
  /** The schema of the map; undefined: it is a list. */
  keyed: JsonSchema | undefined;
  /** Whether each row is shown by itself, with its texts whole. */
  asRecords: boolean;
}

/** Undefined: a result of this schema is no table. */
function rowsSchema(schema: JsonSchema): Pick<Rows, 'row' | 'keyed'> | undefined {
  const items = schemaOfItem(schema, 0);
  if (items !== undefined) return isOfObjects(items) ? { row: items, keyed: undefined } : undefined;
  const { additionalProperties: values } = schema;
  const row = typeof values === 'object' && values !== null ? fieldsOf(values) : undefined;
  return row !== undefined && isOfObjects(row) ? { row, keyed: schema } : undefined;
}

function isOfObjects({ type }: JsonSchema): boolean {
  return [type].flat().includes('object');
}

/** Undefined: the value is no list and no map of objects. */
function rowsOf(value: object, schema: JsonSchema): Rows | undefined {
  const asRecords = schema['x-display'] === 'records';
  if (Array.isArray(value)) {
    const list: unknown[] = value;
    if (!list.every(isObject)) return undefined;
    const rows = list.map((each) => ({ key: undefined, value: each }));
    return { rows, row: schemaOfItem(schema, 0) ?? {}, keyed: undefined, asRecords };
  }
  const known = rowsSchema(schema);
  const entries: [string, unknown][] = Object.entries(value);
  const isMap = known?.keyed !== undefined || (schema.type === undefined && entries.length > 1);
  if (!isMap || !entries.every(([, each]) => isObject(each))) return undefined;
  const rows = entries.map(([key, each]) => ({ key, value: each }));
  return { rows, row: known?.row ?? {}, keyed: known?.keyed ?? {}, asRecords };
}

function rowsText({ rows, row, keyed, asRecords }: Rows, style: ResultStyle): string {
  const standard = columnsOf(row, rows, keyed);
  const columns = style.columns === undefined ? standard : chosenColumns(style.columns, standard, row, rows);
  if (rows.length === 0) return '';
  const texts = failedFirst(
    rows.map((each) => columns.map((column) => textIn(each, column))),
    columns,
  );
  if (!asRecords && hasRoom(columns.length, style)) return formatTable(columns, texts, style);
  return texts
    .map((cells) =>
      pairsText(
        columns.map(({ title, isState = false }, index) => ({ title, text: cells[index] ?? '', isState })),
        style,
      ),
    )
    .join('\n');
}

/** What needs a person comes first; else the order stays. */
function failedFirst(rows: readonly string[][], columns: readonly ResultColumn[]): string[][] {
  const states = columns.flatMap(({ isState }, index) => (isState === true ? [index] : []));
  const isFailed = (row: readonly string[]) => states.some((index) => toneOf(row[index] ?? '') === 'bad');
  return states.length === 0
    ? [...rows]
    : [...rows.filter(isFailed), ...rows.filter((row) => !isFailed(row))];
}

function objectText(
  value: Readonly<Record<string, unknown>>,
  schema: JsonSchema,
  style: ResultStyle,
): string {
  if (style.columns !== undefined) {
    const row = { key: undefined, value };
    const columns = chosenColumns(style.columns, columnsOf(schema, [row]), schema, [row]);
    const pairs = columns.map((column) => ({
      title: column.title,
      text: textIn(row, column),
      isState: column.isState === true,
    }));
    return pairsText(pairs, style);
  }
  const pairs: Pair[] = [];
  const sections: string[] = [];
  addFields(value, schema, [], { pairs, sections, style });
  return [...(pairs.length === 0 ? [] : [pairsText(pairs, style)]), ...sections].join('\n');
}

/** The fields of an object, and of the objects in it; lists of objects are sections below. */
function addFields(
  value: Readonly<Record<string, unknown>>,
  schema: JsonSchema,
  path: readonly string[],
  to: { pairs: Pair[]; sections: string[]; style: ResultStyle },
): void {
  for (const [name, each] of Object.entries(value)) {
    const at = [...path, name];
    const field = schemaOfField(schema, name) ?? {};
    const title = titleOf(at, field);
    const rows = isObject(each) || Array.isArray(each) ? rowsOf(each, field) : undefined;
    if (rows !== undefined && rows.rows.length > 0)
      to.sections.push(`${printable(title)}\n${rowsText(rows, to.style)}`);
    else if (isObject(each) && Object.values(each).some((inner) => typeof inner === 'object'))
      addFields(fieldsOf(each), field, at, to);
    else if (isObject(each) && field.properties !== undefined) addFields(fieldsOf(each), field, at, to);
    else to.pairs.push({ title, text: shortText(each), isState: isStateName(at) });
  }
}

/** `KEY  value` lines; a long text goes on below its beginning. */
function pairsText(pairs: readonly Pair[], { width, colours }: TableStyle): string {
  const titles = pairs.map(({ title }) => printable(title));
  const margin = Math.max(...titles.map(widthOf)) + GAP.length;
  const space = width === undefined ? Infinity : width - margin;
  return pairs
    .flatMap(({ text, isState }, index) => {
      const tone = colours && isState ? toneOf(text) : undefined;
      const lines = (text === '' ? '-' : text.trimEnd()).split('\n').flatMap((line) => {
        const shown = printable(line);
        return space < MIN_WRAPPED ? [shown] : wrapped(shown, space);
      });
      return lines.map((line, at) => {
        const shown = tone === undefined ? line : painted(line, tone);
        return `${padded(at === 0 ? (titles[index] ?? '') : '', margin)}${shown}\n`;
      });
    })
    .join('');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function lineEnded(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
