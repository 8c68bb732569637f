import ky, { type Options } from 'ky';
import { Agent } from 'undici';
import { HttpFailure } from '../network/http-client.js';
import { linkSignals } from '../linked-signal.js';

const CONNECT_TIMEOUT_MS = 3_000;
const MAX_BODY_BYTES = 32 * 1024 * 1024;
/** Many answers may wait for the Manager at once; they are not all to reach it in the same moment. */
const CONNECTIONS = 32;

/** Failures in which no byte of a request can have reached the server: it is certain that nothing was done. */
const NOT_SENT: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export interface JsonRequest {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  url: URL;
  /** The value of the header `Authorization`. */
  authorization?: string;
  /** JSON. */
  body?: string;
  /**
   * Whether to make a connection for this call alone. One that was kept may have been closed by the server in this very
   * moment, and then nobody knows whether the call has arrived.
   */
  ownConnection?: boolean;
  signal: AbortSignal;
  timeoutMs: number;
}

export interface JsonResponse {
  status: number;
  headers: Headers;
  text: string;
}

/**
 * One HTTP call after another with the headers that the Manager's callers have always sent. Repeats nothing, follows no
 * redirect, and reads a bounded answer.
 */
export class JsonHttp {
  readonly #keeping = agent({ pipelining: 1 });
  /** Without pipelining, undici keeps no connection open. */
  readonly #closing = agent({ pipelining: 0 });

  /**
   * @throws HttpFailure
   * @throws the signal's reason when that is aborted
   */
  async call(request: JsonRequest): Promise<JsonResponse> {
    const { method, url, authorization, body, ownConnection = false, signal, timeoutMs } = request;
    signal.throwIfAborted();
    const link = linkSignals(signal);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      link.abort(undefined);
    }, timeoutMs);
    // ky hands on what it does not know to fetch, where undici reads it. Kept as an object without known keys, since
    // Node's own types of fetch belong to another version of undici.
    const dispatching: object = { dispatcher: ownConnection ? this.#closing : this.#keeping };
    const init: Options = {
      ...dispatching,
      method,
      body,
      headers: {
        accept: 'application/json',
        'content-type': 'application/json',
        ...(authorization !== undefined && { authorization }),
      },
      signal: link.signal,
      retry: 0,
      timeout: false,
      throwHttpErrors: false,
      redirect: 'manual',
    };
    try {
      const response = await ky(url, init);
      return { status: response.status, headers: response.headers, text: await boundedText(response) };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw late ? new HttpFailure(`no answer within ${timeoutMs} ms`, { cause: error }) : failureOf(error);
    } finally {
      clearTimeout(timer);
      link.unlink();
    }
  }

  /** Cuts what is under way. */
  async close(): Promise<void> {
    await Promise.all([this.#keeping.destroy(), this.#closing.destroy()]);
  }
}

function agent({ pipelining }: { pipelining: number }): Agent {
  return new Agent({ connect: { timeout: CONNECT_TIMEOUT_MS }, connections: CONNECTIONS, pipelining });
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

function failureOf(error: unknown): HttpFailure {
  let reason = String(error);
  // What went wrong stands at the end of the chain: fetch itself only says that it failed.
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof HttpFailure) return cause;
    const code: unknown = 'code' in cause ? cause.code : undefined;
    if (typeof code === 'string') return new HttpFailure(code, { notSent: NOT_SENT.has(code), cause: error });
    reason = cause.message;
  }
  return new HttpFailure(reason, { cause: error });
}
