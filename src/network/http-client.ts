import { isIP } from 'node:net';
import { callbackify } from 'node:util';
import { Agent, buildConnector } from 'undici';
import { boundedCall, CONNECT_TIMEOUT_MS, HttpFailure } from './bounded-call.js';
import type { ConnectionPolicy } from './connection-policy.js';

export interface HttpClientOptions {
  /** Where to connect; left out: anywhere, for addresses that the operator has configured. */
  policy?: ConnectionPolicy;
  /** The most connections to one server at the same time; left out: no limit. */
  connections?: number;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
}

export interface HttpCallOptions {
  /** The value of the header `Authorization`. */
  authorization?: string;
  /** JSON text. */
  body?: string;
  /**
   * Makes a connection for this call alone. The server may close a kept connection at the moment of a call, and then
   * it is unknown whether the call has arrived.
   */
  ownConnection?: boolean;
  signal: AbortSignal;
  timeoutMs: number;
  /** How much of the answer is read, decoded; 32 MiB by default. */
  maxAnswerBytes?: number;
}

export class HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;

  constructor({ status, headers, text }: Pick<HttpAnswer, 'status' | 'headers' | 'text'>) {
    this.status = status;
    this.headers = headers;
    this.text = text;
  }

  /** The text read as JSON; the text itself when it is not JSON; undefined when it is empty. */
  get body(): unknown {
    if (this.text.trim() === '') return undefined;
    try {
      return JSON.parse(this.text);
    } catch {
      return this.text;
    }
  }
}

/**
 * HTTP with JSON bodies, on connections that are kept open. Never repeats a call, never follows a redirect, and reads
 * a bounded answer.
 */
export class HttpClient {
  readonly #headers: Readonly<Record<string, string>>;
  readonly #keeping: Agent;
  readonly #closing: Agent;

  constructor({ policy, connections, headers = {} }: HttpClientOptions = {}) {
    this.#headers = headers;
    const connect = policy === undefined ? { timeout: CONNECT_TIMEOUT_MS } : connectorFor(policy);
    // With 1, a call never waits for another one on the same connection; with 0, undici keeps no connection open.
    this.#keeping = new Agent({ connect, connections, pipelining: 1 });
    this.#closing = new Agent({ connect, connections, pipelining: 0 });
  }

  /**
   * @throws HttpFailure
   * @throws ActionError `forbidden` when policy does not allow the connection
   * @throws the signal's reason when that is aborted
   */
  async call(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    url: URL,
    { authorization, body, ownConnection = false, signal, timeoutMs, maxAnswerBytes }: HttpCallOptions,
  ): Promise<HttpAnswer> {
    signal.throwIfAborted();
    // fetch refuses such a URL too, but repeats the password in its error.
    if (url.username !== '' || url.password !== '')
      throw new HttpFailure('a user name or password in the URL is not supported', { notSent: true });
    const answer = await boundedCall({
      method,
      url,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...this.#headers,
        ...(authorization !== undefined && { authorization }),
      },
      body,
      dispatcher: ownConnection ? this.#closing : this.#keeping,
      signal,
      timeoutMs,
      maxAnswerBytes,
    });
    return new HttpAnswer(answer);
  }

  /** Aborts the calls in progress, and closes all connections. */
  async close(): Promise<void> {
    await Promise.all([this.#keeping.destroy(), this.#closing.destroy()]);
  }
}

function connectorFor(policy: ConnectionPolicy): buildConnector.connector {
  const resolve = callbackify((host: string) => policy.resolve(host));
  const connect = buildConnector({
    timeout: CONNECT_TIMEOUT_MS,
    // Gives only addresses that policy allows, so the address that is checked is the one that is connected to.
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
