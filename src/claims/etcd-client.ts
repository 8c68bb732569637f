import { HttpFailure } from '../network/bounded-call.js';
import type { HttpClient, HttpResponse } from '../network/http-client.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { OutageLog } from '../lib/outage-log.js';
import { untilAborted } from '../lib/until-aborted.js';
import { EtcdError, LEASE_NOT_FOUND } from './etcd-error.js';
import { type KeyValue, readNumber, readTransaction, UnreadableResponse } from './etcd-responses.js';

/** What must be true of a key for a transaction to succeed. */
export type Comparison =
  /** It does not exist. */
  | { key: string; is: 'absent' }
  /** It was created in this revision, and not deleted since. */
  | { key: string; is: 'created'; in: string }
  /** It was last written in this revision. */
  | { key: string; is: 'written'; in: string }
  | { key: string; is: 'equal'; to: string };

export type Operation = { put: string; value: string; lease: string } | { delete: string } | { get: string };

export interface Transaction {
  compare: readonly Comparison[];
  /** What is done when all comparisons hold. */
  success: readonly Operation[];
  failure?: readonly Operation[];
}

export interface EtcdClientOptions {
  http: Pick<HttpClient, 'call'>;
  /** The addresses of the members of one etcd; at least one. */
  urls: readonly string[];
  /** Undefined: etcd has no authentication. */
  login?: { user: string; password: string } | undefined;
  /** Gets the outcome of each request. */
  outage: Pick<OutageLog, 'failed' | 'succeeded'>;
}

/** The time limit of a request, in milliseconds. */
const REQUEST_MS = 5_000;
/** A claim has at most 64 KiB of a reply, and a transaction reads few keys. */
const MAX_RESPONSE_BYTES = 1024 * 1024;
/** gRPC's codes in etcd's responses. */
const UNAUTHENTICATED = 16;

/**
 * etcd's JSON gateway (v3). A request whose outcome is unknown may be sent once more: what it does must be the same when it is
 * done twice, or be guarded by the comparisons of a transaction.
 * Every method throws `EtcdError`, or the signal's reason.
 */
export class EtcdClient {
  readonly #options: EtcdClientOptions;
  /** The URL that responded last is the first to be tried. */
  #urls: readonly string[];
  #token: Promise<string> | undefined;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
    this.#urls = options.urls;
  }

  async transaction(
    given: Transaction,
    signal: AbortSignal,
  ): Promise<{ succeeded: boolean; parts: KeyValue[][] }> {
    const body = {
      compare: given.compare.map(comparison),
      success: given.success.map(operation),
      failure: (given.failure ?? []).map(operation),
    };
    return this.#request('kv/txn', body, readTransaction, signal);
  }

  /** The values of these keys, all read at the same time; undefined where there is no such key. */
  async read(keys: readonly string[], signal: AbortSignal): Promise<(KeyValue | undefined)[]> {
    const { parts } = await this.transaction({ compare: [], success: keys.map((get) => ({ get })) }, signal);
    return keys.map((_key, index) => parts[index]?.[0]);
  }

  /** @returns the ID of the lease, and its time to live as etcd has granted it, in milliseconds */
  async grantLease(ttlMs: number, signal: AbortSignal): Promise<{ id: string; ttlMs: number }> {
    const body = { TTL: String(Math.ceil(ttlMs / 1_000)) };
    return this.#request(
      'lease/grant',
      body,
      (response) => {
        const { ID, TTL } = fieldsOf(response);
        return {
          id: readNumber(ID, 'the ID of the lease'),
          ttlMs: Number(readNumber(TTL, 'its TTL')) * 1_000,
        };
      },
      signal,
    );
  }

  /** @returns the time to live from now on, in milliseconds; undefined: the lease has ended */
  async keepAlive(id: string, signal: AbortSignal): Promise<number | undefined> {
    return this.#request(
      'lease/keepalive',
      { ID: id },
      (response) => {
        const { result, error } = fieldsOf(response);
        if (result === undefined)
          throw new UnreadableResponse(error === undefined ? 'it has no result' : 'it is an error');
        // The response to an unknown lease has no TTL.
        const { TTL } = fieldsOf(result);
        return TTL === undefined ? undefined : Number(readNumber(TTL, 'its TTL')) * 1_000;
      },
      signal,
    );
  }

  /** Ends a lease; its keys are deleted. */
  async revokeLease(id: string, signal: AbortSignal): Promise<void> {
    await this.#request('lease/revoke', { ID: id }, fieldsOf, signal);
  }

  async #request<T>(
    path: string,
    body: object,
    read: (response: unknown) => T,
    signal: AbortSignal,
  ): Promise<T> {
    const { outage } = this.#options;
    try {
      const result = await this.#attempt(path, body, read, signal);
      outage.succeeded();
      return result;
    } catch (error) {
      if (error instanceof EtcdError && error.code === LEASE_NOT_FOUND) outage.succeeded();
      else if (error instanceof EtcdError) outage.failed({ reason: error.message });
      throw error;
    }
  }

  async #attempt<T>(
    path: string,
    body: object,
    read: (response: unknown) => T,
    signal: AbortSignal,
  ): Promise<T> {
    const token = await this.#tokenFor(signal);
    let response = await this.#send(path, body, token, signal);
    if (token !== undefined && isUnauthenticated(response)) {
      // etcd forgets its tokens when it starts again, and after some minutes.
      this.#token = undefined;
      response = await this.#send(path, body, await this.#tokenFor(signal), signal);
    }
    return parsed(path, response, read);
  }

  async #tokenFor(signal: AbortSignal): Promise<string | undefined> {
    const { login } = this.#options;
    if (login === undefined) return undefined;
    if (this.#token === undefined) {
      // Not the caller's signal: others wait for the same login.
      const token = this.#logIn(login, new AbortController().signal);
      token.catch(() => {
        if (this.#token === token) this.#token = undefined;
      });
      this.#token = token;
    }
    return untilAborted(this.#token, signal);
  }

  async #logIn({ user, password }: { user: string; password: string }, signal: AbortSignal): Promise<string> {
    const path = 'auth/authenticate';
    const response = await this.#send(path, { name: user, password }, undefined, signal);
    return parsed(path, response, (given) => {
      const { token } = fieldsOf(given);
      if (typeof token !== 'string' || token === '') throw new UnreadableResponse('it has no token');
      return token;
    });
  }

  /** Tries the URLs in turn. */
  async #send(
    path: string,
    body: object,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const failures = new Set<string>();
    for (const url of this.#urls) {
      const { host } = new URL(url);
      try {
        const response = await this.#options.http.call('POST', new URL(`/v3/${path}`, url), {
          operation: path,
          body: JSON.stringify(body),
          // Without `Bearer`, which etcd does not understand.
          authorization: token,
          repeatable: true,
          signal,
          timeoutMs: REQUEST_MS,
          maxResponseBytes: MAX_RESPONSE_BYTES,
        });
        if (response.status < 500) {
          this.#urls = [url, ...this.#urls.filter((each) => each !== url)];
          return response;
        }
        // Such as a member that has lost its leader.
        failures.add(`${host}: ${errorOf(response).reason}`);
      } catch (error) {
        if (!(error instanceof HttpFailure)) throw error;
        failures.add(`${host}: ${error.message}`);
      }
    }
    throw new EtcdError([...failures].join('; '));
  }
}

function parsed<T>(path: string, response: HttpResponse, read: (response: unknown) => T): T {
  if (response.status !== 200) {
    const { reason, code } = errorOf(response);
    throw new EtcdError(`${path}: ${reason}`, { code });
  }
  try {
    return read(response.json());
  } catch (cause) {
    if (!(cause instanceof UnreadableResponse) && !(cause instanceof SyntaxError)) throw cause;
    throw new EtcdError(`${path}: it is no response of etcd: ${cause.message}`, { cause });
  }
}

/** etcd's own error has a message and gRPC's code; some of its errors are plain text. */
function errorOf(response: HttpResponse): { reason: string; code: number | undefined } {
  const status = `HTTP status ${response.status}`;
  let given: Record<string, unknown> = {};
  try {
    given = fieldsOf(response.json());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const { message, code } = given;
  return {
    reason: typeof message === 'string' ? `${status}: ${message.slice(0, 200)}` : status,
    code: typeof code === 'number' ? code : undefined,
  };
}

function isUnauthenticated(response: HttpResponse): boolean {
  if (response.status === 401) return true;
  const { code, reason } = errorOf(response);
  // etcd refuses tokens of the kind JWT so after each change of its users and roles.
  return code === UNAUTHENTICATED || reason.includes('revision of auth store is old');
}

function comparison(given: Comparison): object {
  const key = encoded(given.key);
  switch (given.is) {
    case 'absent':
      return { key, target: 'CREATE', result: 'EQUAL', create_revision: '0' };
    case 'created':
      return { key, target: 'CREATE', result: 'EQUAL', create_revision: given.in };
    case 'written':
      return { key, target: 'MOD', result: 'EQUAL', mod_revision: given.in };
    default:
      return { key, target: 'VALUE', result: 'EQUAL', value: encoded(given.to) };
  }
}

function operation(given: Operation): object {
  if ('get' in given) return { request_range: { key: encoded(given.get) } };
  if ('delete' in given) return { request_delete_range: { key: encoded(given.delete) } };
  const { put, value, lease } = given;
  return { request_put: { key: encoded(put), value: encoded(value), lease } };
}

function encoded(text: string): string {
  return Buffer.from(text).toString('base64');
}
