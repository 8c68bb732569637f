import { fieldsOf } from '../../lib/fields-of.js';
import { printable } from '../../lib/printable.js';
import type { Machine, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';
import { UnusableResponse } from './fleet-answer.js';

/**
 * The limit for ids, addresses, hashes and states, in characters: the longest real one is a host name, of at most 254.
 */
const MAX_WORD = 256;

export type Collection = 'machines' | 'units' | 'states';

/** One page of a collection of fleet API v1. */
export interface Page<Row = unknown> {
  rows: Row[];
  nextPageToken: string | undefined;
}

/** What was read of a response. */
export interface Reading<T> {
  value: T;
  /** What is wrong in it, for people: rows that were left out or that are listed twice. */
  flaws: readonly string[];
}

/** How to read the rows of a collection. */
export interface RowReader<Row> {
  of: Collection;
  /** @throws UnusableResponse */
  readRow: (row: unknown) => Row;
  /** The text by which fleet sorts the rows. */
  keyOf: (row: Row) => string;
}

/**
 * Reads a page of `machines`, `units` or `states`. fleet omits an empty collection, and the token on the last page.
 * A row that has a name but is otherwise invalid is left out, so that the others can be used.
 * @throws UnusableResponse
 */
export function readPage<Row>(
  body: unknown,
  { of: collection, readRow, keyOf }: RowReader<Row>,
): Reading<Page<Row>> {
  const page = asMap(body, 'the response');
  const isOther = Object.keys(page).length > 0 && !('nextPageToken' in page) && !(collection in page);
  if (isOther) throw invalid(`it has no '${collection}'`);
  const listed = page[collection] ?? [];
  if (!Array.isArray(listed)) throw invalid(`'${collection}' is not a list`);
  const nextPageToken = textOrNull(page, 'nextPageToken') || undefined;
  const rows: Row[] = [];
  const flaws: string[] = [];
  const keys = new Set<string>();
  for (const [index, each] of listed.entries()) {
    const name = nameOf(each, `row ${index + 1} of '${collection}'`);
    const row = readOrReason(each, readRow);
    if ('reason' in row) {
      flaws.push(`${name} was left out, because ${row.reason}`);
      continue;
    }
    const key = keyOf(row.value);
    if (keys.has(key)) flaws.push(`${name} is listed twice`);
    keys.add(key);
    rows.push(row.value);
  }
  return { value: { rows, nextPageToken }, flaws };
}

/** The name or the id of a row, in quotes, for people. */
function nameOf(row: unknown, what: string): string {
  const { name, id } = fieldsOf(row);
  const found = typeof name === 'string' ? name : id;
  if (typeof found !== 'string') throw invalid(`${what} has no name`);
  return printable(JSON.stringify(found.slice(0, 60)));
}

function readOrReason<Row>(
  row: unknown,
  readRow: (row: unknown) => Row,
): { value: Row } | { reason: string } {
  try {
    return { value: readRow(row) };
  } catch (error) {
    if (error instanceof UnusableResponse) return { reason: error.message };
    throw error;
  }
}

/** @throws UnusableResponse */
export function readMachine(row: unknown): Machine {
  const machine = asMap(row, 'a machine');
  const metadata = asMap(machine.metadata ?? {}, "a machine's metadata");
  return {
    id: word(machine, 'id'),
    primaryIP: wordOrNull(machine, 'primaryIP'),
    metadata: Object.fromEntries(Object.keys(metadata).map((key) => [key, text(metadata, key)])),
  };
}

/** @throws UnusableResponse */
export function readUnit(row: unknown): Unit {
  const unit = asMap(row, 'a unit');
  const options = unit.options ?? [];
  if (!Array.isArray(options)) throw invalid("a unit's options are not a list");
  return {
    name: text(unit, 'name'),
    options: options.map(readOption),
    desiredState: wordOrNull(unit, 'desiredState'),
    currentState: wordOrNull(unit, 'currentState'),
    machineID: wordOrNull(unit, 'machineID'),
  };
}

function readOption(row: unknown): UnitOption {
  const option = asMap(row, "a unit's option");
  return {
    section: text(option, 'section'),
    name: text(option, 'name'),
    value: textOrNull(option, 'value') ?? '',
  };
}

/** @throws UnusableResponse */
export function readUnitState(row: unknown): UnitState {
  const state = asMap(row, 'a unit state');
  return {
    name: text(state, 'name'),
    hash: wordOrNull(state, 'hash'),
    machineID: wordOrNull(state, 'machineID'),
    systemdLoadState: wordOrNull(state, 'systemdLoadState'),
    systemdActiveState: wordOrNull(state, 'systemdActiveState'),
    systemdSubState: wordOrNull(state, 'systemdSubState'),
  };
}

function asMap(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw invalid(`${what} is not a map`);
}

function text(map: Record<string, unknown>, key: string): string {
  const value = textOrNull(map, key);
  if (value === null) throw invalid(`'${shortened(key)}' is missing`);
  return value;
}

function textOrNull(map: Record<string, unknown>, key: string): string | null {
  const value = map[key] ?? null;
  if (value !== null && typeof value !== 'string') throw invalid(`'${shortened(key)}' is not a string`);
  return value;
}

function word(map: Record<string, unknown>, key: string): string {
  const value = text(map, key);
  checkWord(value, key);
  return value;
}

function wordOrNull(map: Record<string, unknown>, key: string): string | null {
  const value = textOrNull(map, key);
  if (value !== null) checkWord(value, key);
  return value;
}

/** Ids, addresses, hashes and states are quoted in texts for people: there they must not control a terminal, or fill pages. */
function checkWord(value: string, key: string): void {
  if (value.length > MAX_WORD) throw invalid(`'${key}' has more than ${MAX_WORD} characters`);
  if (printable(value) !== value) throw invalid(`'${key}' has characters that are not printable`);
}

/** Keys of metadata come from the cluster: their length is not limited there, and they may control a terminal. */
function shortened(key: string): string {
  return key.slice(0, 60).replace(/[^ -~]/g, '?');
}

function invalid(reason: string): UnusableResponse {
  return new UnusableResponse('invalid', reason);
}
