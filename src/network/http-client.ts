import { isIP } from 'node:net';
import { callbackify } from 'node:util';
import ky, { type Options } from 'ky';
import { Agent, buildConnector } from 'undici';
import { ActionError } from '../action-error.js';
import type { ConnectionPolicy } from './connection-policy.js';

const CONNECT_TIMEOUT_MS = 3_000;
const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** Failures in which no byte of a request can have reached the server: it is certain that nothing was done. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export interface HttpAnswer {
  status: number;
  /** The body as JSON; undefined when it is empty. */
  body: unknown;
}

/** An HTTP call that brought no usable answer. */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  /** True when it is certain that the server never saw the request. */
  readonly notSent: boolean;
  /** True when the server did answer, with more than this client reads. */
  readonly tooLarge: boolean;

  constructor(reason: string, options: { notSent?: boolean; tooLarge?: boolean; cause?: unknown } = {}) {
    super(reason, { cause: options.cause });
    this.notSent = options.notSent ?? false;
    this.tooLarge = options.tooLarge ?? false;
  }
}

/**
 * HTTP with JSON bodies, on connections that are kept open. Never repeats a call, never follows a redirect, and reads
 * a bounded answer.
 */
export class HttpClient {
  readonly #agent: Agent;

  /** @param policy where to connect; left out: anywhere, for addresses that the operator has configured */
  constructor(policy?: ConnectionPolicy) {
    this.#agent = new Agent({
      connect: policy === undefined ? { timeout: CONNECT_TIMEOUT_MS } : connectorFor(policy),
      // More than one request must not wait for another on the same connection.
      pipelining: 1,
    });
  }

  /**
   * @throws HttpFailure
   * @throws ActionError `forbidden` when policy does not allow the connection
   * @throws the signal's reason when that is aborted
   */
  async call(
    method: 'GET' | 'PUT' | 'DELETE',
    url: URL,
    options: { json?: unknown; signal: AbortSignal; timeoutMs: number },
  ): Promise<HttpAnswer> {
    const { json, signal, timeoutMs } = options;
    signal.throwIfAborted();
    // fetch refuses such a URL too, but repeats the password in its error.
    if (url.username !== '' || url.password !== '')
      throw new HttpFailure('a user name or password in the URL is not supported', { notSent: true });
    const limit = AbortSignal.timeout(timeoutMs);
    // ky hands on what it does not know to fetch, where undici reads it. Kept as an object without known keys, since
    // Node's own types of fetch belong to another version of undici.
    const dispatching: object = { dispatcher: this.#agent };
    const init: Options = {
      ...dispatching,
      method,
      json,
      signal: AbortSignal.any([signal, limit]),
      retry: 0,
      timeout: false,
      throwHttpErrors: false,
      redirect: 'manual',
    };
    try {
      const response = await ky(url, init);
      return { status: response.status, body: parsed(await boundedText(response)) };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw limit.aborted
        ? new HttpFailure(`no answer within ${timeoutMs} ms`, { cause: error })
        : failureOf(error);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function connectorFor(policy: ConnectionPolicy): buildConnector.connector {
  const resolve = callbackify((host: string) => policy.resolve(host));
  const connect = buildConnector({
    timeout: CONNECT_TIMEOUT_MS,
    // Only addresses that policy allows are handed on, so what is checked is what is connected to.
    lookup: (host, { all }, done) =>
      resolve(host, (error, addresses) => {
        if (error) return done(error, '');
        const found = addresses.map((address) => ({ address, family: isIP(address) }));
        const [first] = found;
        return all ? done(null, found) : done(null, first?.address ?? '', first?.family);
      }),
  });
  return (options, done) => {
    const host = options.hostname.replace(/^\[|\]$/g, '');
    // An address is not looked up, so it is checked here.
    if (isIP(host) === 0) return connect(options, done);
    return resolve(host, (error) => (error ? done(error, null) : connect(options, done)));
  };
}

async function boundedText(response: Response): Promise<string> {
  if (response.body === null) return '';
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Counted as decoded: a small compressed body can stand for a very large one.
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES)
      throw new HttpFailure(`an answer of more than ${MAX_BODY_BYTES} bytes`, { tooLarge: true });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parsed(text: string): unknown {
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function failureOf(error: unknown): Error {
  let reason = String(error);
  // What went wrong stands at the end of the chain: fetch itself only says that it failed.
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ActionError || cause instanceof HttpFailure) return cause;
    const inner: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
    const code: unknown = inner instanceof Error && 'code' in inner ? inner.code : undefined;
    if (typeof code === 'string') return new HttpFailure(code, { notSent: NOT_SENT.has(code), cause: error });
    reason = cause.message;
  }
  return new HttpFailure(reason, { cause: error });
}
