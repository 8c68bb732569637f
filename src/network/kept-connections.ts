import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fieldsOf } from '../lib/fields-of.js';

const LOST: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

/**
 * Knows which calls failed because a connection that an earlier call had left open was lost before a response. That is no
 * failure of the server: it may close an idle connection at the moment when it is used again.
 */
export class KeptConnections {
  /** The connections on which a request was sent. */
  readonly #used = new WeakSet<object>();
  /** The requests without a response that were sent on a connection that was used before. */
  readonly #onKept = new WeakSet<object>();
  /** The errors of these requests. */
  readonly #errors = new WeakSet<object>();
  /** Only these events of undici tell the connection of a request. */
  readonly #listeners: [event: string, listener: (message: unknown) => void][] = [
    ['undici:client:sendHeaders', (message) => this.#sent(fieldsOf(message))],
    ['undici:request:headers', (message) => this.#answered(fieldsOf(message))],
    ['undici:request:error', (message) => this.#failed(fieldsOf(message))],
  ];

  constructor() {
    for (const [event, listener] of this.#listeners) subscribe(event, listener);
  }

  /** Whether a call failed because such a connection was lost. */
  wasLost(error: unknown): boolean {
    for (let cause = error; cause instanceof Error; cause = cause.cause)
      if (this.#errors.has(cause)) return LOST.has(fieldsOf(cause).code);
    return false;
  }

  close(): void {
    for (const [event, listener] of this.#listeners) unsubscribe(event, listener);
  }

  #sent({ request, socket }: Record<string, unknown>): void {
    if (!isObject(request) || !isObject(socket)) return;
    if (this.#used.has(socket)) this.#onKept.add(request);
    this.#used.add(socket);
  }

  #answered({ request }: Record<string, unknown>): void {
    if (isObject(request)) this.#onKept.delete(request);
  }

  #failed({ request, error }: Record<string, unknown>): void {
    if (isObject(request) && isObject(error) && this.#onKept.has(request)) this.#errors.add(error);
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
