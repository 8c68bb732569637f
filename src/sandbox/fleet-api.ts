import { conflictInRequirements } from '../api/fleet-unit-rules.js';
import { isTemplateName, isUnitName } from '../api/grammar.js';
import {
  DESIRED_STATES,
  type Machine,
  type Unit,
  type UnitOption,
  type UnitState,
} from '../api/fleet-transport.js';
import { isGlobalUnit } from '../api/unit-requirements.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { ClusterState } from './cluster.js';
import type { SandboxResponse, SandboxOutcome, SandboxRequest } from './loopback-service.js';
import { pageOf, readPageToken } from './paging.js';
import { unitFileHash } from '../api/unit-file.js';

const ROOT = '/fleet/v1';
const METADATA_PATH = /^\/([^/]+)\/metadata\/([A-Za-z0-9_.-]+)$/;

/**
 * Answers a request as fleet v1.0's API does, including behaviour that its API document does not mention (fleet, api/
 * and client/registry.go).
 * @param pageSize the server's `token_limit`
 */
export function respondAsFleet(
  cluster: ClusterState,
  request: SandboxRequest,
  pageSize: number,
): SandboxOutcome {
  const { method, path } = request;
  if (path === `${ROOT}/machines`) {
    if (method === 'GET') return listMachines(cluster, request, pageSize);
    if (method === 'PATCH') return patchMachines(cluster, request.body);
    return failure(405, 'only GET and PATCH supported against this resource');
  }
  if (path === `${ROOT}/units`) {
    if (method === 'GET') return listUnits(cluster, request, pageSize);
    return failure(405, 'only GET supported against this resource');
  }
  if (path === `${ROOT}/state`) {
    if (method === 'GET') return listStates(cluster, request, pageSize);
    return failure(405, 'only GET supported against this resource');
  }
  const unit = itemOf(`${ROOT}/units/`, path);
  if (unit !== undefined) {
    if (method === 'GET') return getUnit(cluster, unit);
    if (method === 'PUT') return putUnit(cluster, unit, request);
    if (method === 'DELETE') return deleteUnit(cluster, unit);
    return failure(405, 'only GET, PUT and DELETE supported against this resource');
  }
  const stateOf = itemOf(`${ROOT}/state/`, path);
  if (stateOf !== undefined) {
    if (method === 'GET') return getState(cluster, stateOf);
    return failure(405, 'only GET supported against this resource');
  }
  return failure(path === '/' || path === ROOT ? 405 : 404);
}

/** An error in fleet's format; the message of a 500 is empty. */
export function failure(status: number, message = ''): SandboxResponse {
  return json({ error: { code: status, message } }, status);
}

function listMachines(cluster: ClusterState, { query }: SandboxRequest, pageSize: number): SandboxOutcome {
  const token = readPageToken(query.getAll('nextPageToken'), pageSize);
  if (typeof token === 'string') return failure(400, token);
  return listed('machines', pageOf(cluster.listedMachines(), token), machineOnWire);
}

function listUnits(cluster: ClusterState, { query }: SandboxRequest, pageSize: number): SandboxOutcome {
  const token = readPageToken(query.getAll('nextPageToken'), pageSize);
  if (typeof token === 'string') return failure(400, token);
  return listed('units', pageOf(cluster.listedUnits(), token), unitOnWire);
}

function listStates(cluster: ClusterState, { query }: SandboxRequest, pageSize: number): SandboxOutcome {
  const token = readPageToken(query.getAll('nextPageToken'), pageSize);
  if (typeof token === 'string') return failure(400, token);
  const machineID = query.get('machineID') ?? '';
  const unitName = query.get('unitName') ?? '';
  const rows = cluster
    .listedStates()
    .filter((row) => machineID === '' || row.machineID === machineID)
    .filter((row) => unitName === '' || row.name === unitName);
  return listed('states', pageOf(rows, token), stateOnWire);
}

function listed<T>(
  collection: string,
  page: ReturnType<typeof pageOf<T>>,
  onWire: (item: T) => unknown,
): SandboxOutcome {
  // Go's HTTP server then closes the connection.
  if (page === 'panic') return 'drop';
  return json(present({ [collection]: page.items.map(onWire), nextPageToken: page.nextPageToken }));
}

function getState(cluster: ClusterState, name: string): SandboxOutcome {
  const row = cluster.listedStates().find((each) => each.name === name);
  // fleetd's handler panics when there is no row, and Go's HTTP server then closes the connection.
  return row === undefined ? 'drop' : json(stateOnWire(row));
}

function getUnit(cluster: ClusterState, name: string): SandboxResponse {
  const unit = cluster.unit(name);
  if (unit === 'poisoned') return failure(500);
  if (unit === undefined) return failure(404, 'unit does not exist');
  // A global unit has no schedule to read its state from; only the list shows a default state.
  return json(unitOnWire(isGlobalUnit(unit) ? { ...unit, currentState: null } : unit));
}

function deleteUnit(cluster: ClusterState, name: string): SandboxResponse {
  const unit = cluster.unit(name);
  if (unit === 'poisoned') return failure(500);
  if (unit === undefined) return failure(404, 'unit does not exist');
  cluster.removeUnit(name);
  return { status: 204 };
}

function putUnit(
  cluster: ClusterState,
  name: string,
  { contentTypes, body }: SandboxRequest,
): SandboxResponse {
  const refusal = contentTypeRefusal(contentTypes);
  if (refusal !== undefined) return failure(415, refusal);
  const sent = readUnit(body);
  if (typeof sent === 'string') return failure(400, `unable to decode body: ${sent}`);
  if (sent.name !== '' && sent.name !== name)
    return failure(400, `name in URL "${name}" differs from unit name in request body "${sent.name}"`);
  if (!isUnitName(name)) return failure(400, `invalid unit name "${name}"`);

  const { options, desiredState } = sent;
  const existing = cluster.unit(name);
  if (existing === 'poisoned') return failure(500);
  if (existing === undefined && options.length === 0)
    return failure(409, 'unit does not exist and options field empty');
  const differs = existing === undefined || unitFileHash(options) !== unitFileHash(existing.options);
  if (options.length > 0 && differs) {
    // fleet checks the options of a new unit only.
    const conflict = existing === undefined ? conflictInRequirements(options) : undefined;
    if (conflict !== undefined) return failure(400, conflict);
    return createUnit(cluster, name, options, desiredState);
  }

  if (desiredState === '') return failure(409, 'must provide DesiredState to update existing unit');
  if (isTemplateName(name) && desiredState !== 'inactive')
    return failure(400, `cannot activate template "${name}"`);
  // fleet stores the state without a check: an unknown one poisons the unit.
  cluster.setUnit(name, { desiredState });
  return { status: 204 };
}

/** Creating, unlike updating, checks the desired state; without one the unit is inactive. */
function createUnit(
  cluster: ClusterState,
  name: string,
  options: readonly UnitOption[],
  desiredState: string,
): SandboxResponse {
  if (desiredState !== '' && !DESIRED_STATES.some((state) => state === desiredState)) return failure(500);
  cluster.setUnit(name, { options, desiredState: desiredState === '' ? 'inactive' : desiredState });
  return { status: 201 };
}

function patchMachines(cluster: ClusterState, body: string): SandboxResponse {
  const operations = parseJson(body);
  if (!Array.isArray(operations)) return failure(400, 'expected a list of operations');
  const changes: { machineID: string; key: string; value: string | null }[] = [];
  for (const operation of operations) {
    const { op, path, value } = fieldsOf(operation);
    if (op !== 'add' && op !== 'remove' && op !== 'replace')
      return failure(400, 'invalid op: expect add, remove, or replace');
    const [, machineID, key] = METADATA_PATH.exec(typeof path === 'string' ? path : '') ?? [];
    if (machineID === undefined || key === undefined) return failure(400, 'machine metadata path invalid');
    // The value is nested: {"value": {"value": "x"}}.
    const { value: text } = fieldsOf(value);
    if (op === 'remove') changes.push({ machineID, key, value: null });
    else if (typeof text === 'string' && text !== '') changes.push({ machineID, key, value: text });
    else return failure(400, 'invalid value: add and replace require a value');
  }
  for (const { machineID, key, value } of changes) cluster.setMetadata(machineID, key, value);
  return { status: 204 };
}

/** fleet compares the media type as text, and ignores its parameters (fleet, api/serialization.go). */
function contentTypeRefusal(contentTypes: readonly string[]): string | undefined {
  if (contentTypes.length !== 1) return `expected 1 Content-Type, got ${contentTypes.length}`;
  const mediaType = contentTypes[0]?.split(';')[0]?.trim();
  return mediaType === 'application/json' ? undefined : 'only acceptable Content-Type is application/json';
}

/** The unit in a body, with empty text for missing keys; or the reason why it cannot be read. */
function readUnit(body: string): { name: string; desiredState: string; options: UnitOption[] } | string {
  const parsed = parseJson(body);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'not a JSON object';
  const { name = '', desiredState = '', options } = fieldsOf(parsed);
  if (typeof name !== 'string' || typeof desiredState !== 'string')
    return 'name and desiredState are strings';
  const list: unknown = options ?? [];
  if (!Array.isArray(list)) return 'options is a list';
  const read: UnitOption[] = [];
  for (const option of list) {
    const { section = '', name: optionName = '', value = '' } = fieldsOf(option);
    if (typeof section !== 'string' || typeof optionName !== 'string' || typeof value !== 'string')
      return 'section, name and value of an option are strings';
    read.push({ section, name: optionName, value });
  }
  return { name, desiredState, options: read };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The rest of the path after the prefix, if it is a single segment. */
function itemOf(prefix: string, path: string): string | undefined {
  if (!path.startsWith(prefix)) return undefined;
  const item = path.slice(prefix.length);
  return item === '' || item.includes('/') ? undefined : item;
}

function machineOnWire({ id, metadata, primaryIP }: Machine) {
  return present({ id, metadata, primaryIP });
}

function unitOnWire({ currentState, desiredState, machineID, name, options }: Unit) {
  const optionsOnWire = options.map((option) =>
    present({ name: option.name, section: option.section, value: option.value }),
  );
  return present({ currentState, desiredState, machineID, name, options: optionsOnWire });
}

function stateOnWire(row: UnitState) {
  return present({
    hash: row.hash,
    machineID: row.machineID,
    name: row.name,
    systemdActiveState: row.systemdActiveState,
    systemdLoadState: row.systemdLoadState,
    systemdSubState: row.systemdSubState,
  });
}

/** Leaves out every empty value: fleet's schema types are all `omitempty`. */
function present(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(record).filter(([, value]) => {
      if (value === null || value === '') return false;
      return typeof value !== 'object' || value === undefined || Object.keys(value).length > 0;
    }),
  );
}

function json(value: unknown, status = 200): SandboxResponse {
  return { status, body: JSON.stringify(value) };
}
