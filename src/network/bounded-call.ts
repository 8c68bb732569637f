import type { Options } from 'ky';
import type { Dispatcher } from 'undici';
import { ActionError } from '../api/action-error.js';
import { systemClock } from '../lib/clock.js';
import { isNotSent } from '../lib/not-sent.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { whenUsed } from '../lib/when-used.js';

const loadKy = whenUsed('ky');

/** The time limit for opening a connection, in milliseconds. */
export const CONNECT_TIMEOUT_MS = 3_000;
/** The default maximum size of a response, in bytes. */
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;

/** An HTTP call without a usable response. */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  /** True when it is certain that the request was not sent. */
  readonly notSent: boolean;
  /** True when the response exceeded the size limit. */
  readonly tooLarge: boolean;

  constructor(reason: string, options: { notSent?: boolean; tooLarge?: boolean; cause?: unknown } = {}) {
    super(reason, { cause: options.cause });
    this.notSent = options.notSent ?? false;
    this.tooLarge = options.tooLarge ?? false;
  }
}

export interface BoundedCall {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  url: URL;
  headers?: Record<string, string>;
  body?: string;
  /** Opens the connections. */
  dispatcher: Dispatcher;
  /** Sends the call once more after a failure that this accepts. */
  resend?: { after: (error: unknown) => boolean; dispatcher: Dispatcher };
  signal: AbortSignal;
  timeoutMs: number;
  /** The maximum size of the decoded response, in bytes. */
  maxResponseBytes?: number;
}

export interface BoundedResponse {
  status: number;
  headers: Headers;
  /** In UTF-8. */
  text: Buffer;
}

/**
 * One HTTP call without redirects, with a time limit and a size limit.
 * @throws HttpFailure
 * @throws ActionError from the dispatcher
 * @throws the signal's reason when the signal is aborted
 */
export async function boundedCall(call: BoundedCall): Promise<BoundedResponse> {
  const { method, url, headers, body, dispatcher, resend, signal, timeoutMs } = call;
  const maxBytes = call.maxResponseBytes ?? MAX_RESPONSE_BYTES;
  signal.throwIfAborted();
  const init: Options = {
    method,
    headers,
    body,
    retry: 0,
    timeout: false,
    throwHttpErrors: false,
    redirect: 'manual',
  };
  const send = async (by: Dispatcher, limited: AbortSignal): Promise<BoundedResponse> => {
    // ky passes unknown options to fetch, and undici reads `dispatcher`. Typed as `object`, because Node's types for
    // fetch belong to another version of undici.
    const dispatching: object = { dispatcher: by };
    try {
      const { default: ky } = loadKy();
      const response = await ky(url, { ...dispatching, ...init, signal: limited });
      const text = await boundedText(response, limited, maxBytes);
      return { status: response.status, headers: response.headers, text };
    } catch (error) {
      throw limited.aborted ? limited.reason : failureOf(error);
    }
  };
  const reason = () => new HttpFailure(`no response within ${timeoutMs} ms`);
  return runWithin({ ms: timeoutMs, clock: systemClock, reason, signal }, async (limited) => {
    try {
      return await send(dispatcher, limited);
    } catch (error) {
      if (limited.aborted || resend?.after(error) !== true) throw error;
      return send(resend.dispatcher, limited);
    }
  });
}

/**
 * Reads the body, and stops when the signal is aborted. This needs its own check: the signal that ky passes to fetch
 * may be garbage-collected after the headers have arrived, and then an abort has no effect.
 */
async function boundedText({ body }: Response, signal: AbortSignal, maxBytes: number): Promise<Buffer> {
  if (body === null) return Buffer.alloc(0);
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await untilAborted(reader.read(), signal);
      if (done) return Buffer.concat(chunks, bytes);
      // The decoded size counts, because a small compressed body can expand to a very large one.
      bytes += value.length;
      if (bytes > maxBytes)
        throw new HttpFailure(`the response has more than ${maxBytes} bytes`, { tooLarge: true });
      chunks.push(value);
    }
  } finally {
    // Closes the connection when the body has not been read to its end.
    reader.cancel().catch(() => {});
  }
}

function failureOf(error: unknown): Error {
  let reason = String(error);
  // The actual failure is at the end of the cause chain: the error of fetch only says that it failed.
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ActionError || cause instanceof HttpFailure) return cause;
    const inner: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
    const code: unknown = inner instanceof Error && 'code' in inner ? inner.code : undefined;
    if (typeof code === 'string') return new HttpFailure(code, { notSent: isNotSent(inner), cause: error });
    if (cause.message === 'bad port')
      return new HttpFailure('HTTP clients do not use this port (Fetch standard, bad port)', {
        notSent: true,
      });
    reason = cause.message;
  }
  return new HttpFailure(reason, { cause: error });
}
