import { randomInt, randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { ExecutionContext } from 'ava';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { stringifyExactly } from '../../src/lib/exact-json.js';
import type { Clock } from '../../src/plugin.js';
import { systemClock } from '../../src/lib/clock.js';
import { planted } from './planted-secrets.js';

type Id = number | bigint;

/** A request that the Manager or its OAuth endpoint received. */
export interface ReceivedCall {
  method: string;
  path: string;
  headers: Record<string, string | string[] | undefined>;
  /** Unparsed. */
  text: string;
  /** As JSON; undefined when there was none. */
  body: unknown;
  /** The clock's time. */
  at: number;
  /** How many were in progress at this moment, this one among them. */
  concurrent: number;
}

export interface StandInRecord {
  status: string;
  requestBody: unknown;
  responseBody: unknown;
  /** The unparsed body of the latest PUT. */
  saved?: string;
}

/** A fault that calls meet before the Manager's logic. */
export interface ManagerFault {
  /** Default: the connection is cut without a response. */
  status?: number;
  headers?: Record<string, string>;
  /** Default: the documented error body. */
  body?: string;
  method?: string;
  path?: RegExp;
  /** How many calls. Default: all calls until the fault is ended. */
  times?: number;
}

interface StandInOptions {
  clock?: Clock;
  /** How long tokens live. */
  tokenSeconds?: number;
  oversize?: Oversize;
}

/** The response to a body that is too large: 413, or a cut connection without a response. */
export type Oversize = 'answered' | 'cut';

interface Exchange {
  failoverExchangeId?: Id | null;
  parentExchangeId?: Id | null;
  rootExchangeName?: string;
  routingKey?: string;
}

interface Connection {
  username?: string | null;
  password?: string | null;
  host?: string;
  port?: number | null;
  virtualHost?: string | null;
}

const STAMPS = {
  inserted_at: 'Mon, 01 Jun 2015 10:00:00 GMT',
  updated_at: 'Mon, 01 Jun 2015 10:00:00 GMT',
};
const HOUR_MS = 60 * 60_000;
/** Most of its columns are varchar(255); inserting a longer value fails. */
const COLUMN_CHARACTERS = 255;
/** The limit of its web framework for bodies (Plug.Parsers). */
const BODY_BYTES = 8_000_000;
// Above the ports that fetch refuses, and below the ephemeral ports, so that no other program gets the port while the
// Manager is down.
const PORTS = { from: 11_000, to: 20_000 };

/**
 * A Manager with its OAuth endpoint, on loopback. It keeps state and responds as OpenAperture's Manager does: lenient
 * where that is lenient (records need a status only), strict where that is strict (tokens, the width of its columns,
 * the size of bodies).
 */
export class StandInManager {
  readonly clientId = 'fleet-manager';
  readonly clientSecret = planted('client-secret');
  readonly calls: ReceivedCall[] = [];
  readonly records = new Map<string, StandInRecord>();
  readonly modules: {
    exchange: string;
    hostname: string;
    type: string;
    status: string;
    workload: unknown;
  }[] = [];
  readonly events: { type: string; message: unknown; severity: string; data: unknown; at: number }[] = [];
  tokenSeconds: number;
  /** The next record's id. */
  nextRecordId: Id = 1;
  /** Whether the header Location is a whole URL. */
  absoluteLocations = false;
  readonly #exchanges = new Map<string, object>();
  readonly #restrictions = new Map<string, Id[]>();
  readonly #brokers = new Map<string, object>();
  readonly #connections = new Map<string, object[]>();
  readonly #tokens = new Map<string, { until: number }>();
  readonly #faults = new Map<ManagerFault, number>();
  readonly #holds = new Set<{ path: RegExp; method: string | undefined; released: Promise<void> }>();
  readonly #lost: { path: RegExp; method: string }[] = [];
  readonly #clock: Clock;
  readonly #oversize: Oversize;
  #fastify: FastifyInstance | undefined;
  readonly #address = ownAddress();
  #port = 0;
  #concurrent = 0;
  #delayMs = 0;

  private constructor(options: StandInOptions) {
    this.#clock = options.clock ?? systemClock;
    this.tokenSeconds = options.tokenSeconds ?? 3_600;
    this.#oversize = options.oversize ?? 'answered';
  }

  /** Starts one that goes with the test. */
  static async start(t: ExecutionContext, options: StandInOptions = {}): Promise<StandInManager> {
    const manager = new StandInManager(options);
    for (let triesLeft = 20; ; triesLeft--) {
      manager.#port = randomInt(PORTS.from, PORTS.to);
      try {
        await manager.up();
        break;
      } catch (error) {
        if (triesLeft === 0 || !(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'))
          throw error;
      }
    }
    t.teardown(async () => manager.down());
    return manager;
  }

  /** `MANAGER_URL` */
  get url(): string {
    return `http://${this.host}`;
  }

  /** `OAUTH_LOGIN_URL` */
  get oauthUrl(): string {
    return `${this.url}/oauth/token`;
  }

  get host(): string {
    return `${this.#address}:${this.#port}`;
  }

  /** Listens (again), on the same address and port as before. */
  async up(): Promise<void> {
    if (this.#fastify !== undefined) return;
    const fastify = this.#server();
    await fastify.listen({ host: this.#address, port: this.#port });
    this.#fastify = fastify;
  }

  /** Closes its socket and cuts every connection. */
  async down(): Promise<void> {
    const fastify = this.#fastify;
    this.#fastify = undefined;
    await fastify?.close();
  }

  /** @returns a function that ends the fault */
  fail(fault: ManagerFault): () => void {
    this.#faults.set(fault, fault.times ?? Infinity);
    return () => this.#faults.delete(fault);
  }

  /** Holds calls to a path until the returned function is called. */
  hold(path: RegExp, method?: string): () => void {
    let release = () => {};
    const hold = { path, method, released: new Promise<void>((resolve) => (release = resolve)) };
    this.#holds.add(hold);
    return () => {
      this.#holds.delete(hold);
      release();
    };
  }

  /** The next call to a path is processed, but its connection is cut before the response. */
  loseResponse(path: RegExp, method: string): void {
    this.#lost.push({ path, method });
  }

  /** Delays every response by this time. */
  slow(ms: number): void {
    this.#delayMs = ms;
  }

  revokeTokens(): void {
    this.#tokens.clear();
  }

  addExchange(id: Id, exchange: Exchange = {}): void {
    this.#exchanges.set(String(id), {
      id,
      name: `exchange ${id}`,
      failover_exchange_id: exchange.failoverExchangeId ?? null,
      parent_exchange_id: exchange.parentExchangeId ?? null,
      routing_key_fragment: `fragment${id}`,
      routing_key: exchange.routingKey ?? `root.fragment${id}`,
      root_exchange_name: exchange.rootExchangeName ?? `exchange_of_${id}`,
      ...STAMPS,
    });
  }

  removeExchange(id: Id): void {
    this.#exchanges.delete(String(id));
  }

  /** Restricts an exchange to brokers. The ids of the restrictions are not ids of brokers. */
  restrict(exchangeId: Id, brokerIds: readonly Id[]): void {
    this.#restrictions.set(String(exchangeId), [...brokerIds]);
  }

  addBroker(
    id: Id,
    {
      connections = [{}],
      failoverBrokerId = null,
    }: { connections?: Connection[]; failoverBrokerId?: Id | null } = {},
  ): void {
    this.#brokers.set(String(id), {
      id,
      name: `broker ${id}`,
      failover_broker_id: failoverBrokerId,
      ...STAMPS,
    });
    this.#connections.set(
      String(id),
      connections.map((each, index) => ({
        id: 1_000 + index,
        messaging_broker_id: id,
        username: 'guest',
        password: 'guest',
        host: `broker${id}.example.com`,
        ...each,
        port: each.port ?? null,
        virtual_host: each.virtualHost === undefined ? '/' : each.virtualHost,
        ...STAMPS,
      })),
    );
  }

  removeBroker(id: Id): void {
    this.#brokers.delete(String(id));
  }

  /** Makes a record as a caller does. */
  addRecord(id: Id, record: Partial<StandInRecord> = {}): StandInRecord {
    const added = { status: 'not_started', requestBody: {}, responseBody: null, ...record };
    this.records.set(String(id), added);
    return added;
  }

  /** The calls to matching paths, without token requests. */
  callsTo(path: RegExp, method?: string): ReceivedCall[] {
    return this.calls.filter((call) => path.test(call.path) && (method ?? call.method) === call.method);
  }

  #server(): FastifyInstance {
    // The limit on bodies is implemented below, because Fastify's would respond before reading the body.
    const fastify = Fastify({
      forceCloseConnections: true,
      bodyLimit: Number.MAX_SAFE_INTEGER,
      exposeHeadRoutes: false,
    });
    fastify.removeAllContentTypeParsers();
    fastify.addContentTypeParser('*', async (request: FastifyRequest, payload: IncomingMessage) =>
      this.#readBody(request, payload),
    );
    fastify.setErrorHandler(async (error, _request, reply) =>
      error instanceof BodyTooLarge
        ? refuse(reply.header('connection', 'close'), 413, 'the body is too large')
        : refuse(reply, 500, String(error)),
    );
    fastify.addHook('onRequest', async (_request, reply) => {
      this.#concurrent++;
      reply.raw.once('close', () => this.#concurrent--);
    });
    fastify.addHook('preHandler', async (request, reply) => this.#receive(request, reply));
    fastify.addHook('onSend', async ({ method, url, raw }) => {
      const lost = this.#lost.findIndex((each) => each.path.test(url) && each.method === method);
      if (lost < 0) return;
      this.#lost.splice(lost, 1);
      raw.socket.destroy();
    });
    fastify.setNotFoundHandler(async (_request, reply) => refuse(reply, 404, 'no such route'));
    fastify.post('/oauth/token', async (request, reply) => this.#giveToken(request, reply));
    this.#routes(fastify);
    return fastify;
  }

  /** Reads a body up to the limit. */
  async #readBody(request: FastifyRequest, payload: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const read of payload) {
      const chunk = Buffer.from(read);
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= BODY_BYTES) continue;
      this.#record(request, '');
      if (this.#oversize === 'cut') request.raw.socket.destroy();
      throw new BodyTooLarge();
    }
    return Buffer.concat(chunks).toString();
  }

  #record({ method, url: path, headers }: FastifyRequest, text: string): void {
    const concurrent = this.#concurrent;
    this.calls.push({ method, path, headers, text, body: jsonOf(text), at: this.#clock.now(), concurrent });
  }

  async #receive(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const text = typeof request.body === 'string' ? request.body : '';
    const path = request.url;
    const { method, headers } = request;
    this.#record(request, text);
    for (const hold of this.#holds)
      if (hold.path.test(path) && (hold.method ?? method) === method) await hold.released;
    if (this.#delayMs > 0) await sleep(this.#delayMs);
    const fault = this.#strike(method, path);
    if (fault !== undefined) {
      if (fault.status === undefined) {
        reply.hijack();
        request.raw.socket.destroy();
        return reply;
      }
      if (fault.headers !== undefined) reply.headers(fault.headers);
      return fault.body === undefined
        ? refuse(reply, fault.status, `fault ${fault.status}`)
        : reply.code(fault.status).send(fault.body);
    }
    if (!String(headers.accept).includes('application/json')) return refuse(reply, 406, 'accept');
    if (headers['content-type'] !== 'application/json') return refuse(reply, 415, 'content type');
    if (['POST', 'PUT'].includes(method) && !isMap(jsonOf(text)))
      return refuse(reply, 400, 'the body is no JSON map');
    if (path === '/oauth/token') return undefined;
    const token = /^Bearer access_token=(\S+)$/.exec(headers.authorization ?? '')?.[1];
    const known = this.#tokens.get(token ?? '');
    if (known === undefined || this.#clock.now() >= known.until) return unauthorized(reply);
    return undefined;
  }

  #strike(method: string, path: string): ManagerFault | undefined {
    for (const [fault, left] of this.#faults) {
      if ((fault.method ?? method) !== method || fault.path?.test(path) === false) continue;
      if (left > 1) this.#faults.set(fault, left - 1);
      else this.#faults.delete(fault);
      return fault;
    }
    return undefined;
  }

  #giveToken(request: FastifyRequest, reply: FastifyReply): unknown {
    const body = mapOf(request);
    const { grant_type: grant, client_id: id, client_secret: secret } = body;
    if (grant !== 'client_credentials' || Object.keys(body).length !== 3)
      return reply.code(400).send(JSON.stringify({ error: 'invalid_request' }));
    if (id !== this.clientId || secret !== this.clientSecret)
      return reply.code(401).send(JSON.stringify({ error: 'invalid_client' }));
    const token = `token-${randomUUID()}`;
    this.#tokens.set(token, { until: this.#clock.now() + this.tokenSeconds * 1_000 });
    return json(reply, 200, { access_token: token, expires_in: this.tokenSeconds, token_type: 'bearer' });
  }

  #routes(fastify: FastifyInstance): void {
    fastify.get('/messaging/exchanges/:id', async (request, reply) =>
      found(reply, this.#exchanges.get(idOf(request)), 'MessagingExchange'),
    );
    fastify.get('/messaging/exchanges/:id/brokers', async (request, reply) => {
      const id = idOf(request);
      const restrictions = this.#restrictions.get(id) ?? [];
      const rows = restrictions.map((broker, index) => ({
        id: 7_000 + index,
        messaging_exchange_id: Number(id),
        messaging_broker_id: broker,
        ...STAMPS,
      }));
      return found(reply, this.#exchanges.has(id) ? rows : undefined, 'MessagingExchange');
    });
    fastify.get('/messaging/brokers/:id', async (request, reply) =>
      found(reply, this.#brokers.get(idOf(request)), 'MessagingBroker'),
    );
    fastify.get('/messaging/brokers/:id/connections', async (request, reply) => {
      const id = idOf(request);
      return found(reply, this.#brokers.has(id) ? this.#connections.get(id) : undefined, 'MessagingBroker');
    });
    this.#recordRoutes(fastify);
    fastify.post('/messaging/exchanges/:id/modules', async (request, reply) =>
      this.#addModule(idOf(request), mapOf(request), reply),
    );
    fastify.post('/system_events', async (request, reply) => this.#addEvent(request, reply));
  }

  #recordRoutes(fastify: FastifyInstance): void {
    const path = '/messaging/rpc_requests/:id';
    const what = 'MessagingRpcRequest';
    fastify.addHook('preHandler', async (request, reply) => {
      const isOfRecord = request.routeOptions.url === path;
      // Ecto casts an id before the query.
      return isOfRecord && !/^\d+$/.test(idOf(request)) ? refuse(reply, 400, 'cast error') : undefined;
    });
    fastify.post('/messaging/rpc_requests', async (request, reply) => {
      const { status, request_body: requestBody = null } = mapOf(request);
      if (!isText(status)) return invalid(reply, what);
      if (!fitsColumn(status)) return failed(reply, what);
      const id = this.nextRecordId;
      this.nextRecordId = typeof id === 'bigint' ? id + 1n : id + 1;
      this.addRecord(id, { status, requestBody });
      const location = `${this.absoluteLocations ? this.url : ''}/messaging/rpc_requests/${id}`;
      return reply.code(201).header('location', location).send('');
    });
    fastify.get(path, async (request, reply) => {
      const record = this.records.get(idOf(request));
      return found(
        reply,
        record && {
          id: BigInt(idOf(request)),
          status: record.status,
          request_body: record.requestBody,
          response_body: record.responseBody,
          ...STAMPS,
        },
        what,
      );
    });
    fastify.put(path, async (request, reply) => {
      const record = this.records.get(idOf(request));
      if (record === undefined) return reply.code(404).send('');
      const { status, request_body: requestBody = null, response_body: responseBody = null } = mapOf(request);
      if (!isText(status)) return invalid(reply, what);
      if (!fitsColumn(status)) return failed(reply, what);
      Object.assign(record, { status, requestBody, responseBody, saved: String(request.body) });
      return reply.code(204).header('location', request.url).send();
    });
    fastify.delete(path, async (request, reply) =>
      this.records.delete(idOf(request)) ? reply.code(204).send() : notFound(reply, what),
    );
  }

  /** The previous record is deleted first, so it is lost when the new one does not fit. */
  #addModule(exchange: string, body: Record<string, unknown>, reply: FastifyReply): FastifyReply {
    const { hostname, type, status, workload = null } = body;
    if (!this.#exchanges.has(exchange)) return notFound(reply, 'MessagingExchange');
    if (!isText(hostname) || !isText(type) || !isText(status) || workload === null)
      return invalid(reply, 'MessagingExchangeModule');
    const old = this.modules.findIndex((each) => each.exchange === exchange && each.hostname === hostname);
    if (old >= 0) this.modules.splice(old, 1);
    if (![hostname, type, status, JSON.stringify(workload)].every(fitsColumn))
      return failed(reply, 'MessagingExchangeModule');
    this.modules.push({ exchange, hostname, type, status, workload });
    const location = `/messaging/exchanges/${exchange}/modules/${encodeURIComponent(hostname)}`;
    return reply.code(201).header('location', location).send('');
  }

  #addEvent(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const { unique, type, severity, data = null, message = null } = mapOf(request);
    if (!isText(type) || !isText(severity)) return invalid(reply, 'SystemEvent');
    const at = this.#clock.now();
    // Without data, all events of a type count as equal.
    const isSame = (other: unknown) => data === null || other === null || isDeepStrictEqual(data, other);
    const known = this.events.some(
      (each) => each.type === type && at - each.at < HOUR_MS && isSame(each.data),
    );
    if (unique === true && known)
      return refuse(reply, 409, 'A SystemEvent already exists with that identifier');
    if (![type, severity].every(fitsColumn)) return failed(reply, 'SystemEvent');
    this.events.push({ type, severity, message, data, at });
    return reply.code(201).header('location', '/system_events').send('');
  }
}

class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}

function json(reply: FastifyReply, status: number, value: object): FastifyReply {
  return reply.code(status).header('content-type', 'application/json').send(stringifyExactly(value));
}

function refuse(reply: FastifyReply, status: number, message: string): FastifyReply {
  return json(reply, status, { errors: [{ message }] });
}

function unauthorized(reply: FastifyReply): FastifyReply {
  return reply.code(401).header('content-type', 'text/plain').send('Unauthorized');
}

function found(reply: FastifyReply, value: object | undefined, what: string): FastifyReply {
  return value === undefined ? notFound(reply, what) : json(reply, 200, value);
}

function notFound(reply: FastifyReply, what: string): FastifyReply {
  return refuse(reply, 404, `${what} was not found`);
}

function invalid(reply: FastifyReply, what: string): FastifyReply {
  return refuse(reply, 400, `One or more fields for ${what} were invalid`);
}

/** The Manager's response when the database refuses a value. */
function failed(reply: FastifyReply, what: string): FastifyReply {
  return refuse(reply, 500, `An unexpected error occured with ${what}`);
}

function idOf({ params }: FastifyRequest): string {
  return isMap(params) ? String(params.id) : '';
}

function mapOf({ body }: FastifyRequest): Record<string, unknown> {
  const value = jsonOf(String(body));
  return isMap(value) ? value : {};
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function fitsColumn(text: string): boolean {
  return Array.from(text).length <= COLUMN_CHARACTERS;
}

/**
 * A loopback address of its own: on a shared one another server could take the port while this one is down. Only Linux
 * has more than one (127.0.0.0/8).
 */
function ownAddress(): string {
  if (process.platform !== 'linux') return '127.0.0.1';
  return `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
}
