import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { errorCodeInfo } from '../action-error.js';
import { type AnswerEnvelope, type FleetManagerClient, FleetManagerError } from '../client/client.js';
import { stringifyExactly } from '../exact-json.js';
import type { RequestLog } from '../plugin.js';
import { type ActionDescription, MAX_TIMEOUT_MS } from '../runtime/catalogue.js';
import { excessOf } from '../runtime/parameters.js';

export interface HttpServerOptions {
  host: string;
  /** 0: a free one. */
  port: number;
  /** What callers must send; undefined: anyone on this machine may call. */
  token: string | undefined;
  client: Pick<FleetManagerClient, 'request'>;
  describe: () => ActionDescription[];
  /** Why the service takes no requests; empty when it does. */
  notReady: () => string[];
  /** The largest message that the service reads; a body becomes part of one, so it must be a little smaller. */
  maxBodyBytes: number;
  log: RequestLog;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** More than a message holds beside what its body brings: the envelope, and the name of the action. */
const ENVELOPE_BYTES = 512;
/** What connections that are still sending get at shutdown. */
const LINGER_MS = 2_000;

/** The HTTP side of the service: the gateway for callers without AMQP, the catalogue, and health. */
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
      frameworkErrors: (error, _request, reply) => void this.#unforeseen(error, reply),
    });
    this.#routes();
  }

  /** @returns the URL it can be reached at */
  async start(): Promise<string> {
    const { host, port } = this.#options;
    return this.#fastify.listen({ host, port });
  }

  /** Takes no more calls; those that were made before can still be answered. */
  refuse(): void {
    this.#refusing = true;
  }

  /** Resolves when every call that was made has been answered. */
  async answered(): Promise<void> {
    while (this.#calls.size > 0) await Promise.allSettled(this.#calls);
  }

  /** Answers what has been asked, then closes. */
  async stop(): Promise<void> {
    const cut = setTimeout(() => this.#fastify.server.closeAllConnections(), LINGER_MS);
    await this.#fastify.close().finally(() => clearTimeout(cut));
  }

  #routes(): void {
    const fastify = this.#fastify;
    // A page in a browser can send text anywhere unasked, but JSON only after asking first, which is not answered.
    fastify.removeContentTypeParser('text/plain');
    // Answers may hold whole numbers that a number does not hold exactly.
    fastify.setReplySerializer((body) => stringifyExactly(body));
    fastify.addHook('onRequest', async (request, reply) => this.#guard(request, reply));
    fastify.setNotFoundHandler((_request, reply) =>
      failed(reply, 404, 'invalid_request', 'there is no such path; see GET /v1/actions'),
    );
    fastify.setErrorHandler((error: unknown, _request, reply) => this.#unforeseen(error, reply));
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
    if (request.url === '/livez' || request.url === '/readyz') return undefined;
    const { token } = this.#options;
    if (token === undefined) {
      // A page whose own name was made to resolve to this machine would otherwise get through (DNS rebinding).
      if (isOwnName(request.host)) return undefined;
      return failed(reply, 403, 'forbidden', 'call this gateway by its address or as localhost');
    }
    if (sameToken(request.headers.authorization, token)) return undefined;
    reply.header('www-authenticate', 'Bearer');
    return failed(reply, 401, 'forbidden', 'send the HTTP_TOKEN as Authorization: Bearer TOKEN');
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
    // What is nested too deep would come back from the queue as no request at all.
    const excess = excessOf(parameters);
    if (excess !== undefined) return failed(reply, 400, 'invalid_parameters', excess);
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
      // Nobody is there to be told.
      if (gone.signal.aborted) return reply.hijack();
      throw error;
    } finally {
      this.#calls.delete(call);
    }
    return reply.code(statusOf(answer.status, answer.response_body)).send(answer);
  }

  #unforeseen(error: unknown, reply: FastifyReply): FastifyReply {
    if (error instanceof FleetManagerError)
      return failed(reply, errorCodeInfo(error.code).http, error.code, error.message);
    if (error instanceof Error && 'statusCode' in error && Number(error.statusCode) < 500)
      return failed(reply, Number(error.statusCode), 'invalid_request', error.message);
    this.#options.log.error('the HTTP gateway failed unforeseen', { error });
    return failed(reply, 500, 'internal', "an unforeseen failure; the service's log has the reason");
  }
}

function failed(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send({ status: 'error', response_body: { errors: [message], code } });
}

function statusOf(status: string, body: unknown): number {
  if (status === 'completed') return 200;
  const code: unknown = typeof body === 'object' && body !== null && 'code' in body ? body.code : undefined;
  return errorCodeInfo(typeof code === 'string' ? code : 'internal').http;
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

/** Takes the same time whatever is sent, so that the token cannot be guessed piece by piece. */
function sameToken(header: string | undefined, token: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  // The name of a scheme is the same in any case (RFC 9110, 11.1).
  return timingSafeEqual(hash((header ?? '').replace(/^bearer /i, 'Bearer ')), hash(`Bearer ${token}`));
}
