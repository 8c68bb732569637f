import { HttpFailure } from '../network/bounded-call.js';
import { type HttpResponse, HttpClient } from '../network/http-client.js';
import type { Clock } from '../lib/clock.js';
import { Semaphore } from '../lib/semaphore.js';
import { AccessToken } from './access-token.js';
import { backoffMs } from '../lib/backoff.js';
import { baseUrl } from './base-url.js';
import { errorTextOf, isManagersError, retryAfterMs } from './error-responses.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { linkSignals } from '../lib/linked-signal.js';
import type { WatchUpstream } from '../lib/upstream.js';
import {
  type Broker,
  type BrokerLogin,
  type Exchange,
  idOfLocation,
  type ManagerId,
  readBroker,
  readConnections,
  readExchange,
  checkEmptyOrJson,
  readRecord,
  readRecordState,
  readRestrictions,
  type RecordState,
  type RpcRecord,
  UnreadableResponse,
} from './manager-responses.js';
import { ManagerError } from './manager-error.js';

export interface ManagerClientOptions {
  /** `MANAGER_URL` */
  url: string;
  oauth: {
    /** `OAUTH_LOGIN_URL` */
    url: string;
    /** `OAUTH_CLIENT_ID` */
    clientId: string;
    /** `OAUTH_CLIENT_SECRET` */
    clientSecret: string;
  };
  clock: Clock;
  /** How long one HTTP call may take; 10 s by default. */
  timeoutMs?: number;
  /** Is told of each call; undefined: nobody is. */
  watch?: WatchUpstream | undefined;
}

export interface ManagerCallOptions {
  signal: AbortSignal;
}

/** For callers that retry on their own. */
export interface RetryOptions extends ManagerCallOptions {
  /** The total number of attempts; 3 by default. */
  tries?: number;
}

/** A module as it registers with the Overseer. */
export interface ModuleRegistration {
  hostname: string;
  type: string;
  status: 'active';
  workload: readonly unknown[];
}

/** An event that operators should see. */
export interface SystemEvent {
  /** The Manager ignores it when one of the same type and data came within the last hour. */
  unique: boolean;
  type: string;
  severity: 'error';
  message: string;
  data: Readonly<Record<string, unknown>>;
}

interface ManagerCall {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Relative to the base URL. */
  path: string;
  /** JSON. */
  body?: string;
  /** Whether the call is idempotent. */
  repeatable: boolean;
}

/**
 * Limits concurrent calls for records: many replies may wait for the Manager at the same time. Other calls are few, and one
 * of them must tell quickly whether the Manager responds.
 */
const RECORD_CALLS = 32;
const RECORDS = 'messaging/rpc_requests';
/** OpenAperture's own callers send both headers with every call. */
const HEADERS = { accept: 'application/json', 'content-type': 'application/json' };
const TIMEOUT_MS = 10_000;
const TRIES = 3;
const BACKOFF = { firstMs: 300, maxMs: 3_000 };

/**
 * The Manager's HTTP API. An idempotent call is tried up to three times when there is no response, or one with 429 or
 * 5xx; any other call is retried only when it certainly did not reach the Manager. A refused token is renewed once.
 *
 * Every method throws ManagerError, or the signal's reason when that is aborted.
 */
export class ManagerClient {
  readonly #base: string;
  readonly #host: string;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #http: HttpClient;
  /** A call that waits for its turn has not begun: its time limit must not pass meanwhile. */
  readonly #turns = new Semaphore(RECORD_CALLS);
  readonly #token: AccessToken;
  readonly #closed = new AbortController();

  /** @throws Error when one of the URLs cannot be used */
  constructor({ url, oauth, clock, timeoutMs = TIMEOUT_MS, watch }: ManagerClientOptions) {
    this.#http = new HttpClient({ headers: HEADERS, watch: watch && { kind: 'manager', begin: watch } });
    const base = baseUrl('MANAGER_URL', url);
    this.#base = `${base.origin}${base.pathname.replace(/\/+$/, '')}`;
    this.#host = base.host;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#token = new AccessToken({ ...oauth, http: this.#http, clock, timeoutMs });
  }

  async exchange(id: ManagerId, options: RetryOptions): Promise<Exchange> {
    return this.#read(`messaging/exchanges/${id}`, readExchange, options);
  }

  /** The brokers that an exchange is restricted to; empty when it is not restricted. */
  async exchangeBrokers(id: ManagerId, options: ManagerCallOptions): Promise<ManagerId[]> {
    return this.#read(`messaging/exchanges/${id}/brokers`, readRestrictions, options);
  }

  async broker(id: ManagerId, options: ManagerCallOptions): Promise<Broker> {
    return this.#read(`messaging/brokers/${id}`, readBroker, options);
  }

  async brokerConnections(id: ManagerId, options: ManagerCallOptions): Promise<BrokerLogin[]> {
    return this.#read(`messaging/brokers/${id}/connections`, readConnections, options);
  }

  /** Undefined: there is no such record. */
  async recordState(id: ManagerId, options: RetryOptions): Promise<RecordState | undefined> {
    const response = this.#call({ method: 'GET', path: recordPath(id), repeatable: true }, options);
    return undefinedIfMissing(response.then(({ text }) => readRecordState(text)));
  }

  /** The record of a request; throws `not_found` when there is none. */
  async record(id: ManagerId, options: ManagerCallOptions): Promise<RpcRecord> {
    return this.#read(recordPath(id), readRecord, options);
  }

  /**
   * Creates a record for a request.
   * @param envelope the envelope of the request, without an id
   */
  async createRecord(envelope: object, options: ManagerCallOptions): Promise<ManagerId> {
    const call: ManagerCall = {
      method: 'POST',
      path: RECORDS,
      body: stringifyExactly(envelope),
      repeatable: false,
    };
    const { headers } = await this.#call(call, options);
    return this.#parsed(call, () => idOfLocation(headers.get('location')));
  }

  /**
   * Saves a reply into the record of its request.
   * @param envelope the envelope of the reply as JSON
   * @returns false: the record no longer exists
   */
  async saveRecord(id: ManagerId, envelope: string, options: RetryOptions): Promise<boolean> {
    const call: ManagerCall = { method: 'PUT', path: recordPath(id), body: envelope, repeatable: true };
    try {
      const { text } = await this.#call(call, options);
      this.#parsed(call, () => checkEmptyOrJson(text));
      return true;
    } catch (error) {
      if (!(error instanceof ManagerError) || error.status !== 404 || error.notSent) throw error;
      // The Manager's 404 to a PUT has no body, so it could be that of a proxy.
      if ((await this.recordState(id, options)) === undefined) return false;
      const message = `${error.message}; but the record exists`;
      throw new ManagerError('invalid_response', message, { status: 404, cause: error });
    }
  }

  /** @returns false: the record did not exist */
  async deleteRecord(id: ManagerId, options: ManagerCallOptions): Promise<boolean> {
    const deleted = this.#call({ method: 'DELETE', path: recordPath(id), repeatable: true }, options);
    return (await undefinedIfMissing(deleted.then(() => true))) ?? false;
  }

  /** Registers a module of an exchange; it replaces one with the same host name. */
  async registerModule(
    exchangeId: ManagerId,
    registration: ModuleRegistration,
    options: ManagerCallOptions,
  ): Promise<void> {
    const path = `messaging/exchanges/${exchangeId}/modules`;
    const body = stringifyExactly(registration);
    await this.#call({ method: 'POST', path, body, repeatable: true }, options);
  }

  /** @returns `known` when the Manager had the same event within the last hour */
  async sendSystemEvent(event: SystemEvent, options: ManagerCallOptions): Promise<'created' | 'known'> {
    try {
      const body = stringifyExactly(event);
      await this.#call({ method: 'POST', path: 'system_events', body, repeatable: false }, options);
      return 'created';
    } catch (error) {
      if (error instanceof ManagerError && error.status === 409) return 'known';
      throw error;
    }
  }

  /** Ends the calls in flight with `unreachable`. */
  async close(): Promise<void> {
    this.#closed.abort(new ManagerError('unreachable', 'The connection to the Manager was closed'));
    await this.#http.close();
  }

  async #read<T>(path: string, read: (json: string) => T, options: RetryOptions): Promise<T> {
    const call: ManagerCall = { method: 'GET', path, repeatable: true };
    const { text } = await this.#call(call, options);
    return this.#parsed(call, () => read(text));
  }

  #parsed<T>({ method, path }: ManagerCall, read: () => T): T {
    try {
      return read();
    } catch (cause) {
      if (!(cause instanceof UnreadableResponse)) throw cause;
      throw new ManagerError(
        'invalid_response',
        `The response of the Manager at ${this.#host} to ${method} ${path} cannot be used (${cause.message}): check MANAGER_URL`,
        { cause },
      );
    }
  }

  async #call(
    call: ManagerCall,
    { signal: callerSignal, tries = TRIES }: RetryOptions,
  ): Promise<HttpResponse> {
    const { signal, unlink } = linkSignals(callerSignal, this.#closed.signal);
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#attempt(call, signal);
        } catch (error) {
          if (!(error instanceof ManagerError) || signal.aborted) throw error;
          if (attempt >= tries || !error.retryable || !(call.repeatable || error.notSent)) throw error;
          await this.#clock.sleep(Math.max(error.retryAfterMs, backoffMs(attempt, BACKOFF)), { signal });
        }
      }
    } finally {
      unlink();
    }
  }

  async #attempt(call: ManagerCall, signal: AbortSignal): Promise<HttpResponse> {
    const token = await this.#token.get(signal);
    const first = await this.#send(call, token, signal);
    if (first.status !== 401) return this.#succeeded(call, first, token);
    const renewed = await this.#token.replace(token, signal);
    return this.#succeeded(call, await this.#send(call, renewed, signal), renewed);
  }

  async #send(
    { method, path, body, repeatable }: ManagerCall,
    token: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const url = new URL(`${this.#base}/${path}`);
    const authorization = `Bearer access_token=${token}`;
    const release = path.startsWith(RECORDS) ? await this.#turns.acquire(signal) : undefined;
    try {
      return await this.#http.call(method, url, {
        operation: path.replace(/\d+/g, '{id}'),
        authorization,
        body,
        ownConnection: !repeatable,
        signal,
        timeoutMs: this.#timeoutMs,
      });
    } catch (cause) {
      if (!(cause instanceof HttpFailure)) throw cause;
      throw new ManagerError(
        cause.tooLarge ? 'invalid_response' : 'unreachable',
        `The Manager at ${this.#host} sent no response to ${method} ${path} (${cause.message}): is it up, and is MANAGER_URL right?`,
        { notSent: cause.notSent, cause },
      );
    } finally {
      release?.();
    }
  }

  #succeeded({ method, path }: ManagerCall, response: HttpResponse, token: string): HttpResponse {
    const { status, headers } = response;
    if (status >= 200 && status <= 299) return response;
    const errorText = errorTextOf(response).replaceAll(token, '***');
    const result = `HTTP status ${status}${errorText === '' ? '' : `: ${errorText}`}`;
    const what = `The Manager at ${this.#host} responded to ${method} ${path} with ${result}`;
    if (status === 401 || status === 403) {
      const hint = 'check that OAUTH_CLIENT_ID may use it, and that its tokens come from OAUTH_LOGIN_URL';
      throw new ManagerError('refused', `${what}; ${hint}`, { status });
    }
    // The Manager has a size limit, and so may a proxy in front of it.
    if (status >= 400 && status < 500 && ![408, 413, 429].includes(status) && !isManagersError(response)) {
      const hint =
        "which is not a response of the Manager's API: check MANAGER_URL, and the proxy in front of it";
      throw new ManagerError('invalid_response', `${what}, ${hint}`, { status });
    }
    if (status === 404) throw new ManagerError('not_found', what, { status });
    const hint = status < 400 ? '; check MANAGER_URL: redirects are not followed' : '';
    throw new ManagerError('failed', `${what}${hint}`, {
      status,
      retryAfterMs: retryAfterMs(headers, this.#clock.wallTime()),
    });
  }
}

function recordPath(id: ManagerId): string {
  return `${RECORDS}/${id}`;
}

async function undefinedIfMissing<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ManagerError && error.kind === 'not_found') return undefined;
    throw error;
  }
}
