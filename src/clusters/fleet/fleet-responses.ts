import { ActionError } from '../../api/action-error.js';
import { fieldsOf } from '../../lib/fields-of.js';
import type { Machine, Unit, UnitOption, UnitState } from '../../api/fleet-transport.js';

export type Collection = 'machines' | 'units' | 'states';

/** One page of a collection of fleet API v1. */
export interface Page<Row = unknown> {
  rows: Row[];
  nextPageToken: string | undefined;
}

/**
 * Reads a page of `machines`, `units` or `states`. fleet omits an empty collection, and the token on the last page.
 * @throws ActionError `cluster_answer_invalid`
 */
export function readPage(body: unknown, collection: Collection): Page {
  const page = asMap(body, 'the response');
  const rows = page[collection] ?? [];
  if (!Array.isArray(rows)) throw invalidFleetResponse(`'${collection}' is not a list`);
  return { rows, nextPageToken: textOrNull(page, 'nextPageToken') || undefined };
}

/** @throws ActionError `cluster_answer_invalid` */
export function readMachine(row: unknown): Machine {
  const machine = asMap(row, 'a machine');
  const metadata = asMap(machine.metadata ?? {}, "a machine's metadata");
  return {
    id: text(machine, 'id'),
    primaryIP: textOrNull(machine, 'primaryIP'),
    metadata: Object.fromEntries(Object.keys(metadata).map((key) => [key, text(metadata, key)])),
  };
}

/** @throws ActionError `cluster_answer_invalid` */
export function readUnit(row: unknown): Unit {
  const unit = asMap(row, 'a unit');
  const options = unit.options ?? [];
  if (!Array.isArray(options)) throw invalidFleetResponse("a unit's options are not a list");
  return {
    name: text(unit, 'name'),
    options: options.map(readOption),
    desiredState: textOrNull(unit, 'desiredState'),
    currentState: textOrNull(unit, 'currentState'),
    machineID: textOrNull(unit, 'machineID'),
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

/** @throws ActionError `cluster_answer_invalid` */
export function readUnitState(row: unknown): UnitState {
  const state = asMap(row, 'a unit state');
  return {
    name: text(state, 'name'),
    hash: textOrNull(state, 'hash'),
    machineID: textOrNull(state, 'machineID'),
    systemdLoadState: textOrNull(state, 'systemdLoadState'),
    systemdActiveState: textOrNull(state, 'systemdActiveState'),
    systemdSubState: textOrNull(state, 'systemdSubState'),
  };
}

function asMap(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw invalidFleetResponse(`${what} is not a map`);
}

function text(map: Record<string, unknown>, key: string): string {
  const value = textOrNull(map, key);
  if (value === null) throw invalidFleetResponse(`'${key}' is missing`);
  return value;
}

function textOrNull(map: Record<string, unknown>, key: string): string | null {
  const value = map[key] ?? null;
  if (value !== null && typeof value !== 'string') throw invalidFleetResponse(`'${key}' is not a string`);
  return value;
}

/** The message in an error of fleet, at most 200 characters; empty when it has none. */
export function errorMessageOf(body: unknown): string {
  const { message } = fieldsOf(fieldsOf(body).error);
  return typeof message === 'string' ? message.slice(0, 200) : '';
}

/** The error for an invalid response. */
export function invalidFleetResponse(reason: string): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    `The cluster's fleet API sent an invalid response: ${reason}`,
  );
}
