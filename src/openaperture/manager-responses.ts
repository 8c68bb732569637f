import { isIPv6 } from 'node:net';
import { parseBounded } from '../lib/bounded-json.js';
import { reasonOf } from '../lib/errors.js';
import { exactInteger } from '../lib/exact-json.js';

/** The maximum number of values and keys of a response; most has a record, with its reply. */
const MAX_RESPONSE_ELEMENTS = 1_000_000;

/** The id of a resource in the Manager; a bigint when a number cannot represent it exactly. */
export type ManagerId = number | bigint;

/** A messaging exchange. */
export interface Exchange {
  id: ManagerId;
  failoverExchangeId: ManagerId | undefined;
  /** The prefix of routing keys: `ROUTING_KEY.QUEUE`. */
  routingKey: string;
  /** The AMQP exchange to publish to. */
  rootExchangeName: string;
}

export interface Broker {
  id: ManagerId;
  failoverBrokerId: ManagerId | undefined;
}

/** An address and login of a broker; a broker may have several. */
export interface BrokerLogin {
  username: string;
  password: string;
  host: string;
  /** Null: AMQP's default port. */
  port: number | null;
  /** Null: `/`. */
  virtualHost: string | null;
}

/** A request's record. */
export interface RpcRecord {
  status: string;
  requestBody: unknown;
  responseBody: unknown;
}

/** A response that does not match the Manager's API; the message says what is wrong, without quoting it. */
export class UnreadableResponse extends Error {
  override readonly name = 'UnreadableResponse';
}

/** @throws UnreadableResponse */
export function readExchange(json: string): Exchange {
  const map = asMap(parsed(json));
  return {
    id: id(map, 'id'),
    failoverExchangeId: optionalId(map, 'failover_exchange_id'),
    routingKey: text(map, 'routing_key'),
    rootExchangeName: text(map, 'root_exchange_name'),
  };
}

/**
 * The ids of the brokers that an exchange is restricted to. The `id` of a restriction is not the id of a broker.
 * @throws UnreadableResponse
 */
export function readRestrictions(json: string): ManagerId[] {
  return asList(parsed(json)).map((each) => id(asMap(each), 'messaging_broker_id'));
}

/** @throws UnreadableResponse */
export function readBroker(json: string): Broker {
  const map = asMap(parsed(json));
  return { id: id(map, 'id'), failoverBrokerId: optionalId(map, 'failover_broker_id') };
}

/** @throws UnreadableResponse */
export function readConnections(json: string): BrokerLogin[] {
  return asList(parsed(json)).map((each) => {
    const map = asMap(each);
    return {
      username: text(map, 'username'),
      password: text(map, 'password'),
      host: host(map),
      port: port(map),
      virtualHost: (map.virtual_host ?? '') === '' ? null : text(map, 'virtual_host'),
    };
  });
}

/** @throws UnreadableResponse */
export function readRecord(json: string): RpcRecord {
  const map = asMap(parsed(json));
  return {
    status: text(map, 'status'),
    requestBody: map.request_body ?? null,
    responseBody: map.response_body ?? null,
  };
}

/** Whether a record contains the reply to its request. */
export function isAnswered<R extends RpcRecord>(record: R): record is R & { status: 'completed' | 'error' } {
  return record.status === 'completed' || record.status === 'error';
}

/** What matters of a record before its reply is saved. */
export interface RecordState {
  state: 'open' | 'answered';
  /** As its caller wrote it; null when there is none. */
  requestBody: unknown;
}

/** Callers write the fields of a record; one that cannot be read counts as one without a reply and without a request. */
export function readRecordState(json: string): RecordState {
  try {
    const record = readRecord(json);
    return { state: isAnswered(record) ? 'answered' : 'open', requestBody: record.requestBody };
  } catch {
    return { state: 'open', requestBody: null };
  }
}

/**
 * Checks the body of a response that needs none. It must be empty or JSON: the page of a proxy in front of the Manager
 * is neither.
 * @throws UnreadableResponse
 */
export function checkEmptyOrJson(json: string): void {
  if (json.trim() !== '') parsed(json);
}

/**
 * The id of a created resource: the last segment of the header `Location`, which is a URL or a path.
 * @throws UnreadableResponse
 */
export function idOfLocation(location: string | null): ManagerId {
  const digits = /\/(\d{1,100})\/?(?:[?#].*)?$/.exec(location ?? '')?.[1];
  if (digits === undefined) throw new UnreadableResponse('its header Location does not end in an id');
  return exactInteger(digits);
}

function parsed(json: string): unknown {
  try {
    return parseBounded(Buffer.from(json), { maxElements: MAX_RESPONSE_ELEMENTS });
  } catch (error) {
    throw new UnreadableResponse(`it cannot be read: ${reasonOf(error)}`);
  }
}

function asMap(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new UnreadableResponse('it contains something else where a JSON object is expected');
}

function asList(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw new UnreadableResponse('it is not a list');
}

function text(map: Record<string, unknown>, key: string): string {
  const value = map[key];
  if (typeof value === 'string') return value;
  throw new UnreadableResponse(`'${key}' is not a string`);
}

function id(map: Record<string, unknown>, key: string): ManagerId {
  const value = map[key];
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return value as ManagerId;
  throw new UnreadableResponse(`'${key}' is not an id`);
}

function optionalId(map: Record<string, unknown>, key: string): ManagerId | undefined {
  return (map[key] ?? null) === null ? undefined : id(map, key);
}

/** Also accepts underscores, which RFC 1123 forbids: container names have them. */
function host(map: Record<string, unknown>): string {
  const value = text(map, 'host');
  if (isIPv6(value) || /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(value)) return value;
  throw new UnreadableResponse("'host' is neither a host name nor an address");
}

function port(map: Record<string, unknown>): number | null {
  const value = map.port ?? null;
  if (value === null) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535) return value;
  throw new UnreadableResponse("'port' is not a port number");
}
