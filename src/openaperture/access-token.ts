import { HttpFailure } from '../network/bounded-call.js';
import type { Clock } from '../lib/clock.js';
import { baseUrl } from './base-url.js';
import { errorTextOf, retryAfterMs } from './error-answers.js';
import type { JsonHttp, JsonResponse } from './json-http.js';
import { ManagerError } from './manager-error.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface AccessTokenOptions {
  /** `OAUTH_LOGIN_URL`: where tokens are given out. */
  url: string;
  /** `OAUTH_CLIENT_ID` */
  clientId: string;
  /** `OAUTH_CLIENT_SECRET` */
  clientSecret: string;
  http: JsonHttp;
  clock: Clock;
  timeoutMs: number;
}

/** A token is not used in its last moments: it could expire on the way. */
const SPARE_MS = 30_000;

/**
 * The token that opens the Manager, by OAuth's client credentials (RFC 6749, 4.4). Kept until 30 s before it expires;
 * whoever needs a new one at the same time waits for the same renewal.
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
   * A token that is good for at least 30 s, as far as the OAuth server told.
   * @throws ManagerError, always with `notSent`: the Manager itself has not been asked
   * @throws the signal's reason when that is aborted
   */
  async get(signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const kept = this.#kept;
    if (kept !== undefined && this.#options.clock.now() < kept.until) return kept.text;
    this.#renewal ??= this.#renew().finally(() => {
      this.#renewal = undefined;
    });
    // It serves others too, so it goes on when this caller leaves; its timeout ends it.
    return untilAborted(this.#renewal, signal);
  }

  /** Another token than the one that the Manager has refused; throws as `get` does. */
  async instead(refused: string, signal: AbortSignal): Promise<string> {
    // Of many who were refused together, the first to come has it renewed.
    if (this.#kept?.text === refused) this.#kept = undefined;
    return this.get(signal);
  }

  async #renew(): Promise<string> {
    const asked = this.#options.clock.now();
    const response = await this.#ask();
    if (response.status !== 200) throw this.#failed(response);
    const { token, lifeMs } = this.#read(response);
    this.#kept = { text: token, until: asked + lifeMs - SPARE_MS };
    return token;
  }

  async #ask(): Promise<JsonResponse> {
    const { http, clientId, clientSecret, timeoutMs } = this.#options;
    const body = JSON.stringify({
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
    });
    try {
      return await http.call({
        method: 'POST',
        url: this.#url,
        body,
        signal: new AbortController().signal,
        timeoutMs,
      });
    } catch (cause) {
      const reason = cause instanceof HttpFailure ? cause.message : 'no answer';
      throw new ManagerError(
        'unreachable',
        `The OAuth server at ${this.#url.host} cannot be reached (${reason}): is it up, and is OAUTH_LOGIN_URL right?`,
        { notSent: true, cause },
      );
    }
  }

  #failed(response: JsonResponse): ManagerError {
    const { status, headers } = response;
    const said = this.#withoutSecret(errorTextOf(response));
    const what = `HTTP status ${status}${said === '' ? '' : `: ${said}`}`;
    const details = { status, notSent: true, retryAfterMs: retryAfterMs(headers, this.#options.clock.now()) };
    if ([400, 401, 403].includes(status)) {
      return new ManagerError(
        'refused',
        `The OAuth server at ${this.#url.host} refuses this client (${what}): check OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET`,
        details,
      );
    }
    return new ManagerError(
      'failed',
      `The OAuth server at ${this.#url.host} gives no token (${what}): check OAUTH_LOGIN_URL`,
      details,
    );
  }

  #read({ text }: JsonResponse): { token: string; lifeMs: number } {
    const body = parsed(text);
    const token = 'access_token' in body ? body.access_token : undefined;
    const seconds = 'expires_in' in body ? body.expires_in : undefined;
    // What else it holds could not be sent in a header.
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw this.#unreadable('no access_token');
    if (typeof seconds !== 'number' || !(seconds > 0)) throw this.#unreadable('no expires_in, in seconds');
    return { token, lifeMs: seconds * 1_000 };
  }

  #unreadable(lacks: string): ManagerError {
    return new ManagerError(
      'invalid_answer',
      `The OAuth server at ${this.#url.host} gave an answer with ${lacks}: check OAUTH_LOGIN_URL`,
      { notSent: true },
    );
  }

  /** A server may repeat what it was sent. */
  #withoutSecret(text: string): string {
    const { clientSecret } = this.#options;
    return clientSecret === '' ? text : text.replaceAll(clientSecret, '***');
  }
}

function parsed(text: string): object {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === 'object' && body !== null ? body : {};
  } catch {
    return {};
  }
}
