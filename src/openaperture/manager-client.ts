import { HttpFailure } from '../network/bounded-call.js';
import { type HttpAnswer, HttpClient } from '../network/http-client.js';
import type { Clock } from '../lib/clock.js';
import { AccessToken } from './access-token.js';
import { backoffMs } from '../lib/backoff.js';
import { baseUrl } from './base-url.js';
import { errorTextOf, retryAfterMs } from './error-answers.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { linkSignals } from '../lib/linked-signal.js';
import {
  type Broker,
  type BrokerConnection,
  type Exchange,
  idOfLocation,
  type ManagerId,
  readIsAnswered,
  readBroker,
  readConnections,
  readExchange,
  readNothing,
  readRecord,
  readRestrictions,
  type RpcRecord,
  UnreadableAnswer,
} from './manager-answers.js';
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
}

export interface Cancellable {
  signal: AbortSignal;
}

/** For callers that retry themselves. */
export interface Tried extends Cancellable {
  /** The number of tries; 3 by default. */
  tries?: number;
}

/** A module as it registers with the Overseer. */
export interface ModuleRegistration {
  hostname: string;
  type: string;
  status: 'active';
  workload: readonly unknown[];
}

/** An event for operators. */
export interface SystemEvent {
  /** The Manager stores it only if no event of the same type and data came in the last hour. */
  unique: boolean;
  type: string;
  severity: 'error';
  message: string;
  data: Readonly<Record<string, unknown>>;
}

interface Call {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Relative to the base URL. */
  path: string;
  /** JSON. */
  body?: string;
  /** Whether a second call has the same effect as one. */
  repeatable: boolean;
}

/** Many replies may wait for the Manager: they must not all reach it at the same moment. */
const CONNECTIONS = 32;
/** OpenAperture's own callers send both headers with every call. */
const HEADERS = { accept: 'application/json', 'content-type': 'application/json' };
const TIMEOUT_MS = 10_000;
const TRIES = 3;
const BACKOFF = { firstMs: 300, maxMs: 3_000 };

/**
 * The Manager's HTTP API. An idempotent call is tried three times when there was no answer, or one with 429 or 5xx; any
 * other call only when it is certain that the Manager has not received it. A refused token is renewed once.
 *
 * Every method throws ManagerError, or the signal's reason when that is aborted.
 */
export class ManagerClient {
  readonly #base: string;
  readonly #host: string;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #http = new HttpClient({ connections: CONNECTIONS, headers: HEADERS });
  readonly #token: AccessToken;
  readonly #closed = new AbortController();

  /** @throws Error when one of the URLs cannot be used */
  constructor({ url, oauth, clock, timeoutMs = TIMEOUT_MS }: ManagerClientOptions) {
    const base = baseUrl('MANAGER_URL', url);
    this.#base = `${base.origin}${base.pathname.replace(/\/+$/, '')}`;
    this.#host = base.host;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#token = new AccessToken({ ...oauth, http: this.#http, clock, timeoutMs });
  }

  async exchange(id: ManagerId, options: Tried): Promise<Exchange> {
    return this.#read(`messaging/exchanges/${id}`, readExchange, options);
  }

  /** The brokers that an exchange is restricted to; empty when it is not restricted. */
  async exchangeBrokers(id: ManagerId, options: Cancellable): Promise<ManagerId[]> {
    return this.#read(`messaging/exchanges/${id}/brokers`, readRestrictions, options);
  }

  async broker(id: ManagerId, options: Cancellable): Promise<Broker> {
    return this.#read(`messaging/brokers/${id}`, readBroker, options);
  }

  async brokerConnections(id: ManagerId, options: Cancellable): Promise<BrokerConnection[]> {
    return this.#read(`messaging/brokers/${id}/connections`, readConnections, options);
  }

  /** Whether the record of a request is missing, waits for its answer, or contains it. */
  async recordState(id: ManagerId, options: Tried): Promise<'missing' | 'open' | 'answered'> {
    const answer = this.#call({ method: 'GET', path: recordPath(id), repeatable: true }, options);
    const answered = await unlessMissing(answer.then(({ text }) => readIsAnswered(text)));
    if (answered === undefined) return 'missing';
    return answered ? 'answered' : 'open';
  }

  /** The record of a request; throws `not_found` when there is none. */
  async record(id: ManagerId, options: Cancellable): Promise<RpcRecord> {
    return this.#read(recordPath(id), readRecord, options);
  }

  /**
   * Makes a record for a request.
   * @param envelope the request as its message will contain it, without an id
   */
  async createRecord(envelope: object, options: Cancellable): Promise<ManagerId> {
    const call: Call = {
      method: 'POST',
      path: 'messaging/rpc_requests',
      body: stringifyExactly(envelope),
      repeatable: false,
    };
    const { headers } = await this.#call(call, options);
    return this.#understood(call, () => idOfLocation(headers.get('location')));
  }

  /**
   * Saves a reply in its request's record.
   * @param envelope the reply's envelope as JSON
   * @returns false when the record is gone
   */
  async saveRecord(id: ManagerId, envelope: string, options: Tried): Promise<boolean> {
    const call: Call = { method: 'PUT', path: recordPath(id), body: envelope, repeatable: true };
    const saved = this.#call(call, options).then(({ text }) => {
      this.#understood(call, () => readNothing(text));
      return true;
    });
    return (await unlessMissing(saved)) ?? false;
  }

  /** @returns false when it was not there (any more) */
  async deleteRecord(id: ManagerId, options: Cancellable): Promise<boolean> {
    const deleted = this.#call({ method: 'DELETE', path: recordPath(id), repeatable: true }, options);
    return (await unlessMissing(deleted.then(() => true))) ?? false;
  }

  /** Registers a module of an exchange; replaces one with the same host name. */
  async registerModule(
    exchangeId: ManagerId,
    registration: ModuleRegistration,
    options: Cancellable,
  ): Promise<void> {
    const path = `messaging/exchanges/${exchangeId}/modules`;
    const body = stringifyExactly(registration);
    await this.#call({ method: 'POST', path, body, repeatable: true }, options);
  }

  /** @returns `known` when the Manager had the same event within the last hour */
  async sendSystemEvent(event: SystemEvent, options: Cancellable): Promise<'created' | 'known'> {
    try {
      const body = stringifyExactly(event);
      await this.#call({ method: 'POST', path: 'system_events', body, repeatable: false }, options);
      return 'created';
    } catch (error) {
      if (error instanceof ManagerError && error.status === 409) return 'known';
      throw error;
    }
  }

  /** Aborts the calls in progress, with `unreachable`. */
  async close(): Promise<void> {
    this.#closed.abort(new ManagerError('unreachable', 'The connection to the Manager was closed'));
    await this.#http.close();
  }

  async #read<T>(path: string, read: (json: string) => T, options: Tried): Promise<T> {
    const call: Call = { method: 'GET', path, repeatable: true };
    const { text } = await this.#call(call, options);
    return this.#understood(call, () => read(text));
  }

  #understood<T>({ method, path }: Call, read: () => T): T {
    try {
      return read();
    } catch (cause) {
      if (!(cause instanceof UnreadableAnswer)) throw cause;
      throw new ManagerError(
        'invalid_answer',
        `The answer of the Manager at ${this.#host} to ${method} ${path} cannot be used, ${cause.message}: check MANAGER_URL`,
        { cause },
      );
    }
  }

  async #call(call: Call, { signal: callerSignal, tries = TRIES }: Tried): Promise<HttpAnswer> {
    const { signal, unlink } = linkSignals(callerSignal, this.#closed.signal);
    try {
      for (let tried = 1; ; tried++) {
        try {
          return await this.#once(call, signal);
        } catch (error) {
          if (!(error instanceof ManagerError) || signal.aborted) throw error;
          if (tried >= tries || !error.passing || !(call.repeatable || error.notSent)) throw error;
          await this.#clock.sleep(Math.max(error.retryAfterMs, backoffMs(tried, BACKOFF)), { signal });
        }
      }
    } finally {
      unlink();
    }
  }

  async #once(call: Call, signal: AbortSignal): Promise<HttpAnswer> {
    const token = await this.#token.get(signal);
    const first = await this.#send(call, token, signal);
    if (first.status !== 401) return this.#succeeded(call, first, token);
    const another = await this.#token.instead(token, signal);
    return this.#succeeded(call, await this.#send(call, another, signal), another);
  }

  async #send(
    { method, path, body, repeatable }: Call,
    token: string,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const url = new URL(`${this.#base}/${path}`);
    const authorization = `Bearer access_token=${token}`;
    try {
      return await this.#http.call(method, url, {
        authorization,
        body,
        ownConnection: !repeatable,
        signal,
        timeoutMs: this.#timeoutMs,
      });
    } catch (cause) {
      if (!(cause instanceof HttpFailure)) throw cause;
      throw new ManagerError(
        cause.tooLarge ? 'invalid_answer' : 'unreachable',
        `The Manager at ${this.#host} gives no answer to ${method} ${path} (${cause.message}): is it up, and is MANAGER_URL right?`,
        { notSent: cause.notSent, cause },
      );
    }
  }

  #succeeded({ method, path }: Call, response: HttpAnswer, token: string): HttpAnswer {
    const { status, headers } = response;
    if (status >= 200 && status <= 299) return response;
    const said = errorTextOf(response).replaceAll(token, '***');
    const answer = `HTTP status ${status}${said === '' ? '' : `: ${said}`}`;
    const what = `The Manager at ${this.#host} answers ${method} ${path} with ${answer}`;
    if (status === 401 || status === 403) {
      const hint = 'check that OAUTH_CLIENT_ID may use it, and that OAUTH_LOGIN_URL issues tokens for it';
      throw new ManagerError('refused', `${what}; ${hint}`, { status });
    }
    if (status === 404) throw new ManagerError('not_found', what, { status });
    const hint = status < 400 ? '; check MANAGER_URL: no redirect is followed' : '';
    throw new ManagerError('failed', `${what}${hint}`, {
      status,
      retryAfterMs: retryAfterMs(headers, this.#clock.now()),
    });
  }
}

function recordPath(id: ManagerId): string {
  return `messaging/rpc_requests/${id}`;
}

async function unlessMissing<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ManagerError && error.kind === 'not_found') return undefined;
    throw error;
  }
}
