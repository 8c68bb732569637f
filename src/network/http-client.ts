import { isUtf8 } from 'node:buffer';
import { isIP } from 'node:net';
import { callbackify } from 'node:util';
import type * as undici from 'undici';
import type { Agent, buildConnector } from 'undici';
import { parseBounded } from '../lib/bounded-json.js';
import { systemClock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { hostOf } from '../lib/host-of.js';
import { runWithin } from '../lib/time-limit.js';
import type { UpstreamKind, WatchUpstream } from '../lib/upstream.js';
import { whenUsed } from '../lib/when-used.js';
import { type BoundedCall, boundedCall, CONNECT_TIMEOUT_MS, HttpFailure } from './bounded-call.js';
import type { ConnectionPolicy } from './connection-policy.js';
import { KeptConnections } from './kept-connections.js';

const loadUndici = whenUsed('undici');

/**
 * The maximum number of values and keys of a response. The options of units, of which a page of fleet has most, take 6 bytes
 * for each, and a page at most 4 MiB.
 */
const MAX_RESPONSE_ELEMENTS = 700_000;
const SPACE = 0x20;

export interface HttpClientOptions {
  /** Where the client may connect; by default anywhere, for addresses that the operator has configured. */
  policy?: ConnectionPolicy;
  /** The maximum number of connections to one server; by default unlimited. */
  connections?: number;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
  /** Certificates (PEM) of the certificate authorities to trust for https, instead of those of Node; not with a policy. */
  ca?: Buffer;
  /** Is told of each call; undefined: nobody is. */
  watch?: HttpWatch | undefined;
}

/** Who is told of the calls of a client, and to which kind of server they go. */
export interface HttpWatch {
  kind: UpstreamKind;
  begin: WatchUpstream;
}

export interface HttpCallOptions {
  /** The path, for who watches the calls: one of a few texts, such as `units/{name}`. The URL may contain secrets. */
  operation?: string;
  /** The value of the header `Authorization`. */
  authorization?: string;
  /** JSON text. */
  body?: string;
  /**
   * Opens a separate connection for this call. When the server closes a kept connection during a call, it is unknown
   * whether the call has arrived.
   */
  ownConnection?: boolean;
  /** Whether the call does the same when it is sent twice; by default a GET does. */
  repeatable?: boolean;
  signal: AbortSignal;
  timeoutMs: number;
  /** The maximum size of the decoded response, in bytes; 32 MiB by default. */
  maxResponseBytes?: number;
}

export class HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  /** UTF-8. */
  readonly body: Buffer;

  constructor({ status, headers, text }: { status: number; headers: Headers; text: string | Buffer }) {
    this.status = status;
    this.headers = headers;
    this.body = typeof text === 'string' ? Buffer.from(text) : text;
  }

  get text(): string {
    return this.body.toString();
  }

  /**
   * The parsed JSON; undefined when the response is empty.
   * @throws SyntaxError that says why it cannot be parsed, such as too many values, without quoting it
   */
  json(): unknown {
    if (isBlank(this.body)) return undefined;
    // What is not UTF-8 becomes U+FFFD, as in `text`.
    const json = isUtf8(this.body) ? this.body : Buffer.from(this.text);
    return parseBounded(json, { maxElements: MAX_RESPONSE_ELEMENTS });
  }
}

/** They open the connections of a client. */
interface Agents {
  keepAlive: Agent;
  singleUse: Agent;
  resend: BoundedCall['resend'];
}

/**
 * HTTP with JSON bodies on persistent connections. It never follows a redirect, and limits the size of the response. It
 * repeats only a call that is repeatable and whose kept connection was lost, once and on a new connection.
 */
export class HttpClient {
  readonly #options: HttpClientOptions;
  #agents: Agents | undefined;
  #isClosed = false;
  readonly #kept = new KeptConnections();

  constructor(options: HttpClientOptions = {}) {
    this.#options = options;
  }

  /**
   * @throws HttpFailure
   * @throws ActionError `forbidden` when the policy does not allow the connection
   * @throws the signal's reason when the signal is aborted
   */
  async call(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    url: URL,
    {
      operation,
      authorization,
      body,
      ownConnection = false,
      repeatable = method === 'GET',
      signal,
      timeoutMs,
      maxResponseBytes,
    }: HttpCallOptions,
  ): Promise<HttpResponse> {
    signal.throwIfAborted();
    // fetch refuses such a URL too, but its error contains the password.
    if (url.username !== '' || url.password !== '')
      throw new HttpFailure('a user name or password in the URL is not supported', { notSent: true });
    const { watch } = this.#options;
    const watched = watch?.begin(
      watch.kind,
      operation === undefined ? method : `${method} ${operation}`,
      url.host,
    );
    try {
      const { keepAlive, singleUse, resend } = (this.#agents ??= this.#open());
      const response = await boundedCall({
        method,
        url,
        headers: {
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...this.#options.headers,
          ...(authorization !== undefined && { authorization }),
          ...watched?.headers,
        },
        body,
        dispatcher: ownConnection ? singleUse : keepAlive,
        resend: repeatable ? resend : undefined,
        signal,
        timeoutMs,
        maxResponseBytes,
      });
      watched?.end(failureIn(response.status));
      return new HttpResponse(response);
    } catch (error) {
      watched?.end(error, signal.aborted && error === signal.reason);
      throw error;
    }
  }

  /** Aborts the pending calls and closes all connections. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#kept.close();
    await Promise.all([this.#agents?.keepAlive.destroy(), this.#agents?.singleUse.destroy()]);
  }

  #open(): Agents {
    if (this.#isClosed) throw new HttpFailure('the client is closed', { notSent: true });
    const { policy, connections, ca } = this.#options;
    let loaded: typeof undici;
    try {
      loaded = loadUndici();
    } catch (cause) {
      // Such as too many open files: the next call tries again.
      throw new HttpFailure(reasonOf(cause), { notSent: true, cause });
    }
    const connect = policy === undefined ? { timeout: CONNECT_TIMEOUT_MS, ca } : connectorFor(policy, loaded);
    // 1: one call at a time on a connection. 0: undici closes each connection after its call.
    const keepAlive = new loaded.Agent({ connect, connections, pipelining: 1 });
    const singleUse = new loaded.Agent({ connect, connections, pipelining: 0 });
    const resend = { after: (error: unknown) => this.#kept.wasLost(error), dispatcher: singleUse };
    return { keepAlive, singleUse, resend };
  }
}

/** What a status tells of the server; undefined: it works. Others say something of the call, such as that a unit does not exist. */
function failureIn(status: number): Error | undefined {
  return status >= 500 || status === 429 ? new Error(`HTTP status ${status}`) : undefined;
}

/** Whether it is empty, or white space only. */
function isBlank(body: Buffer): boolean {
  return body.every((byte) => byte <= SPACE);
}

function connectorFor(
  policy: ConnectionPolicy,
  { buildConnector: build, errors }: typeof undici,
): buildConnector.connector {
  // undici gives up a connection at the same limit, but does not tell the lookup of its host.
  const limit = {
    ms: CONNECT_TIMEOUT_MS,
    clock: systemClock,
    reason: () => new errors.ConnectTimeoutError(`no addresses within ${CONNECT_TIMEOUT_MS} ms`),
  };
  const resolve = callbackify((host: string) =>
    runWithin(limit, (signal) => policy.resolve(host, { signal })),
  );
  const connect = build({
    timeout: CONNECT_TIMEOUT_MS,
    // Returns only allowed addresses, so undici connects to an address that has been checked.
    lookup: (host, { all }, done) =>
      resolve(host, (error, addresses) => {
        if (error) return done(error, '');
        const found = addresses.map((address) => ({ address, family: isIP(address) }));
        const [first] = found;
        return all ? done(null, found) : done(null, first?.address ?? '', first?.family);
      }),
  });
  return (options, done) => {
    const host = hostOf(options);
    // `lookup` is not called for an IP address, so it is checked here.
    if (isIP(host) === 0) return connect(options, done);
    return resolve(host, (error) => (error ? done(error, null) : connect(options, done)));
  };
}
