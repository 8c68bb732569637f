import { HttpFailure } from '../network/bounded-call.js';
import type { HttpResponse, HttpClient } from '../network/http-client.js';
import { parseBounded } from '../lib/bounded-json.js';
import type { Clock } from '../lib/clock.js';
import { baseUrl } from './base-url.js';
import { errorTextOf, retryAfterMs } from './error-responses.js';
import { ManagerError } from './manager-error.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface AccessTokenOptions {
  /** `OAUTH_LOGIN_URL`: the token endpoint. */
  url: string;
  /** `OAUTH_CLIENT_ID` */
  clientId: string;
  /** `OAUTH_CLIENT_SECRET` */
  clientSecret: string;
  http: HttpClient;
  clock: Clock;
  timeoutMs: number;
}

/** A token is renewed this long before it expires: it could expire while a request is on its way. */
const EXPIRY_MARGIN_MS = 30_000;

/**
 * The access token for the Manager, by OAuth's client credentials (RFC 6749, 4.4). It is cached until 30 s before it
 * expires. Concurrent calls that need a new token share one renewal.
 */
export class AccessToken {
  readonly #options: AccessTokenOptions;
  readonly #url: URL;
  #kept: { text: string; until: number } | undefined;
  #renewal: Promise<string> | undefined;

  /** @throws Error when the URL cannot be used */
  constructor(options: AccessTokenOptions) {
    this.#options = options;
    this.#url = baseUrl('OAUTH_LOGIN_URL', options.url);
  }

  /**
   * A token that is valid for at least 30 s, according to the OAuth server.
   * @throws ManagerError, always with `notSent`: nothing was sent to the Manager
   * @throws the signal's reason when that is aborted
   */
  async get(signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const kept = this.#kept;
    if (kept !== undefined && this.#options.clock.now() < kept.until) return kept.text;
    this.#renewal ??= this.#renew().finally(() => {
      this.#renewal = undefined;
    });
    // Other callers share the renewal, so aborting this call does not end it. It has its own timeout.
    return untilAborted(this.#renewal, signal);
  }

  /** Replaces a token that the Manager has refused; throws as `get` does. */
  async replace(refused: string, signal: AbortSignal): Promise<string> {
    // Of several concurrent calls that were refused, only the first starts a renewal.
    if (this.#kept?.text === refused) this.#kept = undefined;
    return this.get(signal);
  }

  async #renew(): Promise<string> {
    const requestedAt = this.#options.clock.now();
    const response = await this.#requestToken();
    if (response.status !== 200) throw this.#failed(response);
    const { token, lifetimeMs } = this.#read(response);
    this.#kept = { text: token, until: requestedAt + lifetimeMs - EXPIRY_MARGIN_MS };
    return token;
  }

  async #requestToken(): Promise<HttpResponse> {
    const { http, clientId, clientSecret, timeoutMs } = this.#options;
    const body = JSON.stringify({
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
    });
    try {
      const { signal } = new AbortController();
      return await http.call('POST', this.#url, { operation: 'token', body, signal, timeoutMs });
    } catch (cause) {
      const reason = cause instanceof HttpFailure ? cause.message : 'no response';
      throw new ManagerError(
        'unreachable',
        `The OAuth server at ${this.#url.host} cannot be reached (${reason}): is it up, and is OAUTH_LOGIN_URL right?`,
        { notSent: true, cause },
      );
    }
  }

  #failed(response: HttpResponse): ManagerError {
    const { status, headers } = response;
    const errorText = this.#withoutSecret(errorTextOf(response));
    const what = `HTTP status ${status}${errorText === '' ? '' : `: ${errorText}`}`;
    const details = {
      status,
      notSent: true,
      retryAfterMs: retryAfterMs(headers, this.#options.clock.wallTime()),
    };
    if ([400, 401, 403].includes(status)) {
      return new ManagerError(
        'refused',
        `The OAuth server at ${this.#url.host} refuses this client (${what}): check OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET`,
        details,
      );
    }
    return new ManagerError(
      'failed',
      `The OAuth server at ${this.#url.host} returned no token (${what}): check OAUTH_LOGIN_URL`,
      details,
    );
  }

  #read({ text }: HttpResponse): { token: string; lifetimeMs: number } {
    const body = parsed(text);
    const token = 'access_token' in body ? body.access_token : undefined;
    const seconds = 'expires_in' in body ? body.expires_in : undefined;
    // Other characters cannot be sent in a header.
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw this.#unreadable('no access_token');
    if (typeof seconds !== 'number' || !(seconds > 0)) throw this.#unreadable('no expires_in, in seconds');
    return { token, lifetimeMs: seconds * 1_000 };
  }

  #unreadable(missing: string): ManagerError {
    return new ManagerError(
      'invalid_response',
      `The OAuth server at ${this.#url.host} sent a response with ${missing}: check OAUTH_LOGIN_URL`,
      { notSent: true },
    );
  }

  /** Masks the client secret: an error text of the server may quote it. */
  #withoutSecret(text: string): string {
    const { clientSecret } = this.#options;
    return clientSecret === '' ? text : text.replaceAll(clientSecret, '***');
  }
}

function parsed(text: string): object {
  try {
    const body = parseBounded(Buffer.from(text), { maxElements: 1_000 });
    return typeof body === 'object' && body !== null ? body : {};
  } catch {
    return {};
  }
}
