import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ANONYMOUS, type Caller } from '../api/caller.js';
import { type AnswerEnvelope, DEFAULT_TIMEOUT_MS, FleetManagerError, type Route } from '../client/route.js';
import { MAX_ELEMENTS, parseBounded } from '../lib/bounded-json.js';
import type { Clock } from '../lib/clock.js';
import { memoryOf } from '../lib/decoded-memory.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { type TraceHeaders, traceHeadersIn } from '../lib/trace-context.js';
import { whenUsed } from '../lib/when-used.js';
import type { Logger } from '../lib/logger.js';
import type { ActionDescription } from '../core/action-description.js';
import { sizeProblemOf } from '../core/parameters.js';
import {
  IDEMPOTENCY_KEY,
  IDEMPOTENCY_REPLAYED,
  readIdempotencyKey,
  type SentKey,
} from '../core/idempotency-key.js';
import { isRequestId, REQUEST_ID } from '../core/request-id.js';
import { callerTimeout } from '../core/caller-timeout.js';
import type { Authenticate } from './authenticate.js';
import { isOwnName, sameToken } from './bearer-token.js';
import { httpStatusOf } from './http-status.js';
import { reasonOf } from '../lib/errors.js';
import { ListeningServers } from './listening-servers.js';
import { OpenApiPage } from './openapi-page.js';
import { PROBLEM_TYPE, prefersProblem, problemDetails } from './problem.js';
import { type HeldMemory, RequestMemory } from './request-memory.js';
import type { ScrapeSource } from './scrape-source.js';

const loadFastify = whenUsed('fastify');

export interface HttpServerOptions {
  host: string;
  /** 0: a free port. */
  port: number;
  /** Undefined: every program on this machine may call, and nobody knows who. */
  authenticate: Authenticate | undefined;
  client: Pick<Route, 'request'>;
  /** What `GET /metrics` shows, and the token for it instead of the one above; undefined: there is no such path. */
  metrics?: { source: ScrapeSource; token: string | undefined } | undefined;
  describe: () => ActionDescription[];
  /** The etcd token of the only cluster of a sandbox; undefined: the service is no sandbox. */
  sandboxCluster?: string | undefined;
  /** Why the service accepts no requests; empty when it accepts them. */
  notReady: () => string[];
  /** The largest message that the service reads. A body becomes part of a message, so its limit is a little lower. */
  maxBodyBytes: number;
  /** The memory for all requests and their replies, in bytes. */
  memoryBytes: number;
  clock: Clock;
  /** Begins the trace of a call, or continues that of its caller; undefined: traces are off. */
  traceRequest?: TraceRequest | undefined;
  /** How long a request may take to arrive, in milliseconds; 60 s by default. */
  arrivalMs?: number;
  log: Logger;
}

/**
 * @param route the path, with the names of its parameters
 * @param trace that of the caller
 */
export type TraceRequest = (method: string, route: string, trace: TraceHeaders) => TracedRequest;

/** A call in progress. */
export interface TracedRequest {
  /** The headers that continue its trace. */
  readonly trace: TraceHeaders;
  /** @param status of the response; undefined: the caller has gone without it */
  end(status: number | undefined): void;
}

const ARRIVAL_MS = 60_000;
/** A reply must be read within this time and the time that it takes at the least rate. */
const READING_MS = 30_000;
const LEAST_BYTES_PER_MS = 64;
/** How often Node looks for requests that arrive too slowly. */
const MAX_CHECK_MS = 10_000;
/** How long a connection is kept for further requests. */
const KEEP_ALIVE_MS = 72_000;
/** An upper bound for the rest of a message: the envelope and the name of the action. */
const ENVELOPE_BYTES = 512;
/** An upper bound for what a request takes besides its body: its headers and what runs for it. */
const REQUEST_BYTES = 16 * 1024;
/** A body arrives in pieces, is joined, becomes text (of up to two bytes for each) and then values with as much text. */
const ARRIVING_FORMS = 6;
/** A request is encoded as text (of up to two bytes for each), as a message, and as the frames of that. */
const ENCODED_FORMS = 4;
/** Routes that need no token: orchestrators ask these. */
const HEALTH_ROUTES: ReadonlySet<string> = new Set(['/livez', '/readyz']);
const ACTION_ROUTE = '/v1/actions/:name';
const METRICS_ROUTE = '/metrics';
/** The allowed methods of each path. */
const METHODS: readonly [path: RegExp, allowed: string][] = [
  [/^\/(livez|readyz|v1\/actions|openapi\.json)$/, 'GET, HEAD'],
  [/^\/v1\/actions\/[^/]+$/, 'POST'],
];
/** How long a connection that is ended may take to send the rest. */
const CLOSE_TIMEOUT_MS = 500;

/** The HTTP server of the service: calls for callers without AMQP, the catalogue, and health. */
export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #servers: ListeningServers;
  #fastify: Promise<FastifyInstance> | undefined;
  readonly #calls = new Set<Promise<AnswerEnvelope>>();
  readonly #memory: RequestMemory;
  readonly #held = new WeakMap<FastifyRequest, HeldMemory>();
  readonly #callers = new WeakMap<FastifyRequest, Caller>();
  readonly #openApi: OpenApiPage;
  /** The requests of callers that may want their errors as problem details, by connection: for those that do not arrive in time. */
  readonly #arriving = new WeakMap<Socket, IncomingMessage>();
  #refusing = false;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { arrivalMs = ARRIVAL_MS, memoryBytes: limit, clock, log } = options;
    const { authenticate, describe, metrics } = options;
    this.#openApi = new OpenApiPage(() => ({
      actions: describe(),
      tokens: { ofCallers: authenticate !== undefined, ofMetrics: metrics?.token !== undefined },
      hasMetrics: metrics !== undefined,
    }));
    this.#memory = new RequestMemory({ limit, clock, log });
    this.#servers = new ListeningServers({
      requestTimeout: arrivalMs,
      connectionsCheckingInterval: Math.min(arrivalMs, MAX_CHECK_MS),
      keepAliveTimeout: KEEP_ALIVE_MS,
      onRequest: (request, response) => void this.#serve(request, response),
      onUnparsed: (error, socket) => refuseUnparsed(error, socket, this.#arriving.get(socket)),
    });
  }

  /**
   * @returns the URL of the server
   * @throws Error that says which settings to change
   */
  async start(): Promise<string> {
    const { host, port } = this.#options;
    return this.#servers.listen(host, port, {
      settings: 'HTTP_HOST and HTTP_PORT',
      ifInUse: ' (another fleet-manager?): set HTTP_PORT to another port, 0 or off',
    });
  }

  /** Refuses new calls; those in flight can still be answered. */
  refuse(): void {
    this.#refusing = true;
  }

  /** Resolves when no call is in flight. */
  async answered(): Promise<void> {
    while (this.#calls.size > 0) await Promise.allSettled(this.#calls);
  }

  /** Answers the requests in flight, then closes. */
  async stop(): Promise<void> {
    const loaded = await this.#fastify?.catch(() => undefined);
    await Promise.all([this.#servers.close(CLOSE_TIMEOUT_MS), loaded?.close()]);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers.accept?.toLowerCase().includes('problem'))
      this.#arriving.set(request.socket, request);
    let fastify: FastifyInstance;
    try {
      fastify = await (this.#fastify ??= this.#load());
    } catch (error) {
      // Such as too many open files: the next request tries again.
      this.#fastify = undefined;
      this.#options.log.error('HTTP request failed unexpectedly', { error });
      const { type, body } = errorResponse(500, errorBody('internal', UNEXPECTED), request.headers.accept);
      response.writeHead(500, { 'content-type': type, connection: 'close' }).end(JSON.stringify(body));
      return;
    }
    fastify.routing(request, response);
  }

  /** Fastify is loaded for the first request, which waits little for it: the start of the service would wait too. */
  async #load(): Promise<FastifyInstance> {
    const fastify = loadFastify().fastify({
      bodyLimit: this.#maxBytes,
      routerOptions: { maxParamLength: 100 },
      genReqId: requestIdOf,
      frameworkErrors: (error, request, reply) => {
        reply.header(REQUEST_ID, request.id);
        this.#unexpected(error, request, reply);
      },
      // No route has a schema. Without these two, fastify loads a compiler for schemas.
      schemaController: {
        compilersFactory: { buildValidator: withoutSchemas, buildSerializer: withoutSchemas },
      },
    });
    this.#addRoutes(fastify);
    await fastify.ready();
    return fastify;
  }

  #addRoutes(fastify: FastifyInstance): void {
    // A web page can send text/plain across origins, but JSON only after a CORS preflight, which this server refuses.
    fastify.removeContentTypeParser('text/plain');
    // Fastify's own parser rounds large integers, and has no limits but the size.
    fastify.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer' },
      async (request: FastifyRequest, body: Buffer) => this.#parsed(request, body),
    );
    // Replies may contain integers that a JavaScript number cannot represent exactly.
    fastify.setReplySerializer((body) => stringifyExactly(body));
    fastify.addHook('onRequest', async (request, reply) => {
      reply.header(REQUEST_ID, request.id);
      return this.#guard(request, reply);
    });
    fastify.addHook('onSend', async (_request, reply, payload) => {
      const hasSize = typeof payload === 'string' || Buffer.isBuffer(payload);
      this.#limitReading(reply.raw, hasSize ? Buffer.byteLength(payload) : 0);
    });
    fastify.setErrorHandler((error: unknown, request, reply) => this.#unexpected(error, request, reply));
    fastify.get('/livez', async () => ({ alive: true }));
    fastify.get('/readyz', async (_request, reply) => {
      const reasons = this.#options.notReady();
      return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons });
    });
    const { metrics } = this.#options;
    if (metrics !== undefined)
      fastify.get(METRICS_ROUTE, async (_request, reply) => {
        const { source } = metrics;
        return reply.type(source.contentType).send(await source.text());
      });
    fastify.get('/openapi.json', async (request, reply) => this.#openApi.send(request, reply));
    fastify.get('/v1/actions', async () => ({
      actions: this.#options.describe(),
      sandbox_cluster: this.#options.sandboxCluster,
    }));
    fastify.post<{ Params: { name: string } }>(ACTION_ROUTE, async (request, reply) =>
      this.#act(request.params.name, request, reply),
    );
  }

  /** A caller that does not read its reply must not hold memory without a time limit. */
  #limitReading(response: ServerResponse, bytes: number): void {
    const ms = READING_MS + bytes / LEAST_BYTES_PER_MS;
    const cancel = this.#options.clock.after(ms, () => response.destroy());
    response.once('close', cancel);
  }

  async #guard(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    if (HEALTH_ROUTES.has(request.routeOptions.url ?? '')) return undefined;
    const isScrape = request.routeOptions.url === METRICS_ROUTE;
    const { authorization } = request.headers;
    const known = isScrape ? this.#scraper(authorization) : this.#options.authenticate?.(authorization);
    // Against DNS rebinding: a web page whose own host name resolves to this machine.
    if (known === undefined && !isOwnName(request.host))
      return failed(reply, 403, 'forbidden', 'call this gateway by its address or as localhost');
    if (known !== undefined && 'refused' in known) {
      reply.header('www-authenticate', 'Bearer');
      return failed(reply, 401, 'forbidden', known.refused);
    }
    if (known !== undefined) this.#callers.set(request, known.caller);
    // Also while other calls use up the memory: that must be seen.
    if (isScrape) return undefined;
    // Refused in this hook, before the body is read.
    return request.is404 ? refuseRoute(request, reply) : this.#refuseWithoutRoom(request, reply);
  }

  /** Who asks for the metrics. They may have a token of their own. */
  #scraper(authorization: string | undefined): ReturnType<Authenticate> | undefined {
    const { authenticate, metrics } = this.#options;
    if (metrics?.token === undefined) return authenticate?.(authorization);
    return sameToken(authorization, metrics.token)
      ? { caller: ANONYMOUS }
      : { refused: 'send the METRICS_TOKEN as Authorization: Bearer TOKEN' };
  }

  /** The largest body, in bytes. */
  get #maxBytes(): number {
    return this.#options.maxBodyBytes - ENVELOPE_BYTES;
  }

  /** Counts the memory of a request from its arrival until its reply has left. */
  #refuseWithoutRoom(request: FastifyRequest, reply: FastifyReply): FastifyReply | undefined {
    const bodyBytes = bodyBytesOf(request, this.#maxBytes);
    if (bodyBytes > this.#maxBytes) return this.#tooLarge(reply);
    const held = this.#memory.take(REQUEST_BYTES + bodyBytes * ARRIVING_FORMS);
    if (held === undefined) return failed(reply, 503, 'service_unavailable', NO_ROOM);
    this.#held.set(request, held);
    reply.raw.once('close', () => held.release());
    return undefined;
  }

  /** @throws InvalidBody; FleetManagerError `service_unavailable` when there is no room for what it contains */
  #parsed(request: FastifyRequest, body: Buffer): unknown {
    const { 'content-encoding': encoding = 'identity' } = request.headers;
    if (encoding.toLowerCase() !== 'identity')
      throw new InvalidBody('send the body as it is, without content-encoding', { statusCode: 415 });
    const value = parsedBody(body);
    const bytes = REQUEST_BYTES + memoryOf(value) + body.length * ENCODED_FORMS;
    if (this.#held.get(request)?.tryResize(bytes) === false)
      throw new FleetManagerError('service_unavailable', NO_ROOM);
    return value;
  }

  async #act(action: string, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    if (this.#refusing)
      return failed(reply, 503, 'service_unavailable', 'this worker is shutting down; call again');
    const problem = problemOf(request.body);
    if (problem !== undefined) return failed(reply, 400, 'invalid_request', problem);
    const { etcd_token: cluster, action_parameters: parameters } = request.body as {
      etcd_token?: string | null;
      action_parameters?: Record<string, unknown> | null;
    };
    // The service would dead-letter a request that is nested too deep.
    const sizeProblem = sizeProblemOf(parameters, 'action_parameters');
    if (sizeProblem !== undefined) return failed(reply, 400, 'invalid_parameters', sizeProblem);
    // The size as it will be sent: a number such as 1e20 gets longer.
    const bytes = Buffer.byteLength(stringifyExactly(request.body));
    if (bytes > this.#maxBytes) return this.#tooLarge(reply);
    const timeoutMs = timeoutOf(request.headers['timeout-ms']);
    if (timeoutMs === undefined)
      return failed(
        reply,
        400,
        'invalid_request',
        'the header timeout-ms must be a number of milliseconds, at least 1',
      );
    const sentKey = sentKeyIn(request);
    if (sentKey !== undefined && 'problem' in sentKey)
      return failed(reply, 400, 'invalid_request', `the header ${sentKey.problem}`);
    const closed = new AbortController();
    const trace = this.#traceOf(request, reply);
    reply.raw.once('close', () => closed.abort());
    const isRead = this.#options.describe().some(({ name, effect }) => name === action && effect === 'read');
    const call = this.#options.client.request(action, {
      cluster: cluster ?? undefined,
      parameters: parameters ?? undefined,
      timeoutMs,
      signal: closed.signal,
      resend: isRead,
      trace,
      from: { caller: this.#callers.get(request) ?? ANONYMOUS, door: 'http' },
      requestId: request.id,
      idempotencyKey: sentKey?.key,
    });
    this.#calls.add(call);
    let envelope: AnswerEnvelope;
    try {
      envelope = await call;
    } catch (error) {
      // The caller has closed the connection: nothing can be sent.
      if (closed.signal.aborted) return reply.hijack();
      throw error;
    } finally {
      this.#calls.delete(call);
    }
    if (envelope.replayed === true) {
      delete envelope.replayed;
      reply.header(IDEMPOTENCY_REPLAYED, 'true');
    }
    const status = statusOf(envelope.status, envelope.response_body);
    const asProblem = envelope.status === 'error' && prefersProblem(request.headers.accept);
    // Bytes, not text: what waits for a slow caller must not fill the heap.
    const body = Buffer.from(
      stringifyExactly(asProblem ? problemDetails(status, envelope.response_body) : envelope),
    );
    const held = this.#held.get(request);
    if (!isRead) held?.addReply(body.length);
    else if (held?.tryAddReply(body.length) === false)
      return failed(reply, 503, 'service_unavailable', NO_ROOM);
    if (asProblem) reply.header('vary', 'accept');
    return reply
      .code(status)
      .type(asProblem ? PROBLEM_TYPE : JSON_TYPE)
      .send(body);
  }

  /** The headers that continue the trace of a call in the service. */
  #traceOf(request: FastifyRequest, { raw }: FastifyReply): TraceHeaders {
    const given = traceHeadersIn(request.headers);
    const { traceRequest } = this.#options;
    if (traceRequest === undefined) return given;
    const traced = traceRequest('POST', ACTION_ROUTE, given);
    raw.once('close', () => traced.end(raw.writableFinished ? raw.statusCode : undefined));
    return traced.trace;
  }

  #unexpected(error: unknown, { id }: FastifyRequest, reply: FastifyReply): FastifyReply {
    if (error instanceof FleetManagerError)
      return failed(reply, httpStatusOf(error.code), error.code, error.message, error.details);
    const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
    if (status === 413) return this.#tooLarge(reply);
    if (status === 415 && !(error instanceof InvalidBody))
      return failed(reply, 415, 'invalid_request', 'send content-type: application/json');
    if (error instanceof Error && status < 500)
      return failed(reply, status, 'invalid_request', error.message);
    this.#options.log.error('HTTP request failed unexpectedly', { request: id, error });
    return failed(reply, 500, 'internal', UNEXPECTED);
  }

  #tooLarge(reply: FastifyReply): FastifyReply {
    const limit = this.#maxBytes;
    const message = `the request is too large: the limit is ${limit} bytes`;
    return failed(reply, 413, 'request_too_large', message, { limit });
  }
}

const UNEXPECTED = "an unexpected failure; the service's log has the reason";

/** The caller's own id of the request, or a new one. */
function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers[REQUEST_ID];
  return isRequestId(given) ? given : randomUUID();
}

function withoutSchemas(): never {
  throw new Error('the gateway uses no schemas of fastify');
}

const NO_ROOM = "the gateway's part of MEMORY_BUDGET_BYTES is used up by other calls; call again";

/** The size of the body that a request announces, in bytes; `most` when it announces none but has one. */
function bodyBytesOf({ headers }: FastifyRequest, most: number): number {
  if (headers['transfer-encoding'] !== undefined) return most;
  return Number(headers['content-length'] ?? 0);
}

/** A body that cannot be read; the message says why. */
class InvalidBody extends Error {
  override readonly name = 'InvalidBody';
  readonly statusCode: 400 | 415;

  constructor(
    message: string,
    { statusCode = 400, cause }: { statusCode?: 400 | 415; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.statusCode = statusCode;
  }
}

/** @throws InvalidBody */
function parsedBody(body: Buffer): unknown {
  try {
    return parseBounded(body, { maxElements: MAX_ELEMENTS });
  } catch (cause) {
    throw new InvalidBody(`the body cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

/** Refuses an unknown path, or a method that the path does not allow. */
function refuseRoute(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const [path = ''] = request.url.split('?');
  const [, allowed] = METHODS.find(([each]) => each.test(path)) ?? [];
  if (allowed === undefined)
    return failed(reply, 404, 'invalid_request', 'unknown path; see GET /v1/actions');
  reply.header('allow', allowed);
  return failed(reply, 405, 'invalid_request', `${path} only allows ${allowed.replace(', ', ' and ')}`);
}

/**
 * Answers bytes that Node's parser does not accept as an HTTP request.
 * @param arriving the last request of this connection whose headers have come, if its caller may want problem details
 */
function refuseUnparsed(
  error: NodeJS.ErrnoException,
  socket: Socket,
  arriving: IncomingMessage | undefined,
): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, reason] = UNPARSED.get(error.code ?? '') ?? [400, 'invalid HTTP request'];
  const accept = arriving?.complete === false ? arriving.headers.accept : undefined;
  const response = errorResponse(status, errorBody('invalid_request', reason), accept);
  const body = JSON.stringify(response.body);
  // The caller may never close its side.
  const late = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS);
  socket.once('close', () => clearTimeout(late));
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'connection: close',
      `content-type: ${response.type}`,
      `content-length: ${Buffer.byteLength(body)}`,
      `x-request-id: ${randomUUID()}`,
      '',
      body,
    ].join('\r\n'),
  );
}

const UNPARSED: ReadonlyMap<string, [status: number, reason: string]> = new Map([
  ['HPE_HEADER_OVERFLOW', [431, 'the headers are too large']],
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'the request took too long to arrive']],
]);

const JSON_TYPE = 'application/json; charset=utf-8';

/** The `response_body` of an error. */
function errorBody(code: string, message: string, details?: unknown): object {
  return { errors: [message], code, ...(details !== undefined && { details }) };
}

/** An error in the form that its caller wants. @param accept the header `Accept` */
function errorResponse(
  status: number,
  body: object,
  accept: string | undefined,
): { type: string; body: object } {
  return prefersProblem(accept)
    ? { type: PROBLEM_TYPE, body: problemDetails(status, body) }
    : { type: JSON_TYPE, body: { status: 'error', response_body: body } };
}

function failed(
  reply: FastifyReply,
  status: number,
  code: string,
  message: string,
  details?: unknown,
): FastifyReply {
  const response = errorResponse(status, errorBody(code, message, details), reply.request.headers.accept);
  reply.code(status).type(response.type);
  // Fastify would add a charset, which the media type of problems does not have.
  return response.type === PROBLEM_TYPE
    ? reply.header('vary', 'accept').send(Buffer.from(stringifyExactly(response.body)))
    : reply.send(response.body);
}

function statusOf(status: string, body: unknown): number {
  if (status === 'completed') return 200;
  const code: unknown = typeof body === 'object' && body !== null && 'code' in body ? body.code : undefined;
  return httpStatusOf(typeof code === 'string' ? code : 'internal');
}

function problemOf(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return 'the body must be a JSON object, sent as application/json';
  const map: Record<string, unknown> = { ...body };
  const unknown = Object.keys(map).find((key) => key !== 'etcd_token' && key !== 'action_parameters');
  if (unknown !== undefined)
    return `unknown key '${unknown.slice(0, 100)}' in the body; it may have etcd_token and action_parameters`;
  const { etcd_token: token = null, action_parameters: parameters = null } = map;
  if (token !== null && typeof token !== 'string') return 'etcd_token must be a string';
  if (typeof parameters !== 'object' || Array.isArray(parameters))
    return 'action_parameters must be an object';
  return undefined;
}

function sentKeyIn({ headers: { [IDEMPOTENCY_KEY]: sent } }: FastifyRequest): SentKey | undefined {
  return sent === undefined ? undefined : readIdempotencyKey(sent);
}

function timeoutOf(header: string | string[] | undefined): number | undefined {
  return header === undefined ? DEFAULT_TIMEOUT_MS : callerTimeout(header);
}
