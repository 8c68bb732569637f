import { isIP } from 'node:net';
import { callbackify } from 'node:util';
import { Agent, buildConnector } from 'undici';
import { boundedCall, CONNECT_TIMEOUT_MS, HttpFailure } from './bounded-call.js';
import type { ConnectionPolicy } from './connection-policy.js';

export interface HttpAnswer {
  status: number;
  /** The body as JSON; undefined when it is empty. */
  body: unknown;
  /** How many characters of text the body was. */
  size: number;
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
    options: { json?: unknown; signal: AbortSignal; timeoutMs: number; maxAnswerBytes?: number },
  ): Promise<HttpAnswer> {
    const { json, ...within } = options;
    within.signal.throwIfAborted();
    // fetch refuses such a URL too, but repeats the password in its error.
    if (url.username !== '' || url.password !== '')
      throw new HttpFailure('a user name or password in the URL is not supported', { notSent: true });
    const content =
      json === undefined
        ? {}
        : { body: JSON.stringify(json), headers: { 'content-type': 'application/json' } };
    const { status, text } = await boundedCall({
      method,
      url,
      ...content,
      dispatcher: this.#agent,
      ...within,
    });
    return { status, body: parsed(text), size: text.length };
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

function parsed(text: string): unknown {
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
