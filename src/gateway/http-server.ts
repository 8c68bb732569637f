import { createHash, timingSafeEqual } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { isIP, type Socket } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type AnswerEnvelope, type FleetManagerClient, FleetManagerError } from '../client/client.js';
import { stringifyExactly } from '../lib/exact-json.js';
import type { Logger } from '../lib/logger.js';
import type { ActionDescription } from '../core/catalogue.js';
import { sizeProblemOf } from '../core/parameters.js';
import { MAX_TIMEOUT_MS } from '../core/prepare-action.js';
import { httpStatusOf } from './http-status.js';
import { reasonOf } from '../lib/errors.js';

export interface HttpServerOptions {
  host: string;
  /** 0: a free port. */
  port: number;
  /** The token that callers must send; undefined: anyone on this machine may call. */
  token: string | undefined;
  client: Pick<FleetManagerClient, 'request'>;
  describe: () => ActionDescription[];
  /** Why the service accepts no requests; empty when it does. */
  notReady: () => string[];
  /** The largest message that the service reads; a body is a part of one, so it must be a little smaller. */
  maxBodyBytes: number;
  log: Logger;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** At least the size of a message without its body's content: the envelope and the name of the action. */
const ENVELOPE_BYTES = 512;
/** The methods of each path. */
const METHODS: readonly [path: RegExp, allowed: string][] = [
  [/^\/(livez|readyz|v1\/actions)$/, 'GET, HEAD'],
  [/^\/v1\/actions\/[^/]+$/, 'POST'],
];
/** How long connections that are still sending may stay open at shutdown. */
const LINGER_MS = 2_000;

/** The HTTP server of the service: calls for callers without AMQP, the catalogue, and health. */
export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #fastify: FastifyInstance;
  readonly #calls = new Set<Promise<AnswerEnvelope>>();
  #refusing = false;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#fastify = Fastify({
      bodyLimit: options.maxBodyBytes - ENVELOPE_BYTES,
      forceCloseConnections: 'idle',
      routerOptions: { maxParamLength: 100 },
      frameworkErrors: (error, _request, reply) => void this.#unexpected(error, reply),
      clientErrorHandler: refuseUnparsed,
    });
    this.#routes();
  }

  /**
   * @returns its URL
   * @throws Error that says which settings to change
   */
  async start(): Promise<string> {
    const { host, port } = this.#options;
    try {
      return await this.#fastify.listen({ host, port });
    } catch (cause) {
      const inUse = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
      const reason = inUse
        ? `${host}:${port} is in use (another fleet-manager?): set HTTP_PORT to another port, 0 or off`
        : `HTTP_HOST and HTTP_PORT cannot be used: ${reasonOf(cause)}`;
      throw new Error(reason, { cause });
    }
  }

  /** Accepts no more calls; earlier calls can still be answered. */
  refuse(): void {
    this.#refusing = true;
  }

  /** Resolves when every call has been answered. */
  async answered(): Promise<void> {
    while (this.#calls.size > 0) await Promise.allSettled(this.#calls);
  }

  /** Answers the current requests, then closes. */
  async stop(): Promise<void> {
    const cut = setTimeout(() => this.#fastify.server.closeAllConnections(), LINGER_MS);
    await this.#fastify.close().finally(() => clearTimeout(cut));
  }

  #routes(): void {
    const fastify = this.#fastify;
    // A web page can send text to any server, but JSON only after a preflight request, which is not answered.
    fastify.removeContentTypeParser('text/plain');
    // Replies may contain whole numbers that a number cannot hold exactly.
    fastify.setReplySerializer((body) => stringifyExactly(body));
    fastify.addHook('onRequest', async (request, reply) => this.#guard(request, reply));
    fastify.setErrorHandler((error: unknown, _request, reply) => this.#unexpected(error, reply));
    fastify.get('/livez', async () => ({ alive: true }));
    fastify.get('/readyz', async (_request, reply) => {
      const reasons = this.#options.notReady();
      return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons });
    });
    fastify.get('/v1/actions', async () => ({ actions: this.#options.describe() }));
    fastify.post<{ Params: { name: string } }>('/v1/actions/:name', async (request, reply) =>
      this.#act(request.params.name, request, reply),
    );
  }

  async #guard(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    if (!request.is404 && (request.url === '/livez' || request.url === '/readyz')) return undefined;
    const { token } = this.#options;
    // Protects against DNS rebinding: a web page whose own name resolves to this machine.
    if (token === undefined && !isOwnName(request.host))
      return failed(reply, 403, 'forbidden', 'call this gateway by its address or as localhost');
    if (token !== undefined && !sameToken(request.headers.authorization, token)) {
      reply.header('www-authenticate', 'Bearer');
      return failed(reply, 401, 'forbidden', 'send the HTTP_TOKEN as Authorization: Bearer TOKEN');
    }
    // Checked here, because the body of a refused request need not be read.
    return request.is404 ? notSupported(request, reply) : undefined;
  }

  async #act(action: string, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    if (this.#refusing)
      return failed(reply, 503, 'service_unavailable', 'this instance is shutting down; call again');
    const problem = problemOf(request.body);
    if (problem !== undefined) return failed(reply, 400, 'invalid_request', problem);
    const { etcd_token: cluster, action_parameters: parameters } = request.body as {
      etcd_token?: string | null;
      action_parameters?: Record<string, unknown> | null;
    };
    // The queue would refuse a body that is nested too deeply as an invalid message.
    const sizeProblem = sizeProblemOf(parameters, 'action_parameters');
    if (sizeProblem !== undefined) return failed(reply, 400, 'invalid_parameters', sizeProblem);
    // Measured as it will be sent: a number such as 1e20 is longer there than in the body.
    const bytes = Buffer.byteLength(JSON.stringify(request.body));
    if (bytes > this.#options.maxBodyBytes - ENVELOPE_BYTES) return this.#tooLarge(reply);
    const timeoutMs = timeoutOf(request.headers['timeout-ms']);
    if (timeoutMs === undefined)
      return failed(
        reply,
        400,
        'invalid_request',
        'the header timeout-ms must be a number of milliseconds, at least 1',
      );
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const reads = this.#options.describe().some(({ name, effect }) => name === action && effect === 'read');
    const call = this.#options.client.request(action, {
      cluster: cluster ?? undefined,
      parameters: parameters ?? undefined,
      timeoutMs,
      signal: gone.signal,
      resend: reads,
    });
    this.#calls.add(call);
    let answer: AnswerEnvelope;
    try {
      answer = await call;
    } catch (error) {
      // The caller has closed the connection, so there is no one to reply to.
      if (gone.signal.aborted) return reply.hijack();
      throw error;
    } finally {
      this.#calls.delete(call);
    }
    return reply.code(statusOf(answer.status, answer.response_body)).send(answer);
  }

  #unexpected(error: unknown, reply: FastifyReply): FastifyReply {
    if (error instanceof FleetManagerError)
      return failed(reply, httpStatusOf(error.code), error.code, error.message);
    const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
    if (status === 413) return this.#tooLarge(reply);
    if (status === 415) return failed(reply, 415, 'invalid_request', 'send content-type: application/json');
    if (error instanceof Error && status < 500)
      return failed(reply, status, 'invalid_request', error.message);
    this.#options.log.error('HTTP request failed unexpectedly', { error });
    return failed(reply, 500, 'internal', "an unexpected failure; the service's log has the reason");
  }

  #tooLarge(reply: FastifyReply): FastifyReply {
    const most = this.#options.maxBodyBytes - ENVELOPE_BYTES;
    return failed(
      reply,
      413,
      'invalid_request',
      `the request is too large: at most ${most} bytes are accepted`,
    );
  }
}

/** There is no such path, or it does not support this method. */
function notSupported(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const [path = ''] = request.url.split('?');
  const [, allowed] = METHODS.find(([each]) => each.test(path)) ?? [];
  if (allowed === undefined)
    return failed(reply, 404, 'invalid_request', 'there is no such path; see GET /v1/actions');
  reply.header('allow', allowed);
  return failed(reply, 405, 'invalid_request', `${path} supports ${allowed.replace(', ', ' and ')}`);
}

/** Answers a request that is not valid HTTP. */
function refuseUnparsed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, reason] = UNPARSED.get(error.code ?? '') ?? [400, 'this is not a valid HTTP request'];
  const body = JSON.stringify(errorEnvelope('invalid_request', reason));
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'connection: close',
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      '',
      body,
    ].join('\r\n'),
  );
}

const UNPARSED: ReadonlyMap<string, [status: number, reason: string]> = new Map([
  ['HPE_HEADER_OVERFLOW', [431, 'the headers are too large']],
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'the request took too long to arrive']],
]);

function errorEnvelope(code: string, message: string): object {
  return { status: 'error', response_body: { errors: [message], code } };
}

function failed(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send(errorEnvelope(code, message));
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
    return `the body has etcd_token and action_parameters, but no '${unknown.slice(0, 100)}'`;
  const { etcd_token: token = null, action_parameters: parameters = null } = map;
  if (token !== null && typeof token !== 'string') return 'etcd_token must be text';
  if (typeof parameters !== 'object' || Array.isArray(parameters))
    return 'action_parameters must be an object';
  return undefined;
}

function timeoutOf(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return DEFAULT_TIMEOUT_MS;
  const value = Number(header);
  return Number.isFinite(value) && value >= 1 ? Math.min(value, MAX_TIMEOUT_MS) : undefined;
}

function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || isIP(name) !== 0;
}

/** Takes the same time for every header, so that the token cannot be guessed piece by piece. */
function sameToken(header: string | undefined, token: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  // The name of a scheme is case-insensitive (RFC 9110, 11.1).
  return timingSafeEqual(hash((header ?? '').replace(/^bearer /i, 'Bearer ')), hash(`Bearer ${token}`));
}
