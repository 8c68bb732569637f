import ky, { type Options } from 'ky';
import type { Dispatcher } from 'undici';
import { ActionError } from '../api/action-error.js';
import { systemClock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';

/** How long a connection may take to be made. */
export const CONNECT_TIMEOUT_MS = 3_000;
/** How much of an answer is read, unless a call says otherwise. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** Failures before any byte of a request reached the server: it is certain that nothing was done. */
const NOT_SENT: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** An HTTP call that brought no usable answer. */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  /** True when it is certain that the server never received the request. */
  readonly notSent: boolean;
  /** True when the server answered with more than is read. */
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
  /** Makes the connections (undici). */
  dispatcher: Dispatcher;
  signal: AbortSignal;
  timeoutMs: number;
  /** How much of the answer is read, decoded. */
  maxAnswerBytes?: number;
}

export interface BoundedAnswer {
  status: number;
  headers: Headers;
  text: string;
}

/**
 * One HTTP call: repeats nothing, follows no redirect, ends in time, and reads a bounded answer.
 * @throws HttpFailure
 * @throws ActionError that the dispatcher throws
 * @throws the signal's reason when that is aborted
 */
export async function boundedCall(call: BoundedCall): Promise<BoundedAnswer> {
  const { method, url, headers, body, dispatcher, signal, timeoutMs, maxAnswerBytes } = call;
  signal.throwIfAborted();
  // ky passes options that it does not know on to fetch, where undici reads them. An object without known keys, since
  // Node's own types of fetch belong to another version of undici.
  const dispatching: object = { dispatcher };
  const init: Options = {
    ...dispatching,
    method,
    headers,
    body,
    retry: 0,
    timeout: false,
    throwHttpErrors: false,
    redirect: 'manual',
  };
  const reason = () => new HttpFailure(`no answer within ${timeoutMs} ms`);
  return runWithin({ ms: timeoutMs, clock: systemClock, reason, signal }, async (limited) => {
    try {
      const response = await ky(url, { ...init, signal: limited });
      const text = await boundedText(response, limited, maxAnswerBytes ?? MAX_ANSWER_BYTES);
      return { status: response.status, headers: response.headers, text };
    } catch (error) {
      throw limited.aborted ? limited.reason : failureOf(error);
    }
  });
}

/**
 * Reads the body under the signal: the signal that ky passes to fetch may be garbage-collected once the head of the
 * answer is there, and then aborts nothing.
 */
async function boundedText({ body }: Response, signal: AbortSignal, most: number): Promise<string> {
  if (body === null) return '';
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await untilAborted(reader.read(), signal);
      if (done) return Buffer.concat(chunks).toString('utf8');
      // Counted as decoded: a small compressed body can stand for a very large one.
      bytes += value.length;
      if (bytes > most) throw new HttpFailure(`an answer of more than ${most} bytes`, { tooLarge: true });
      chunks.push(value);
    }
  } finally {
    // Closes the connection when the server has more to send.
    reader.cancel().catch(() => {});
  }
}

function failureOf(error: unknown): Error {
  let reason = String(error);
  // The original failure is at the end of the chain: fetch only says that it failed.
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ActionError || cause instanceof HttpFailure) return cause;
    const inner: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
    const code: unknown = inner instanceof Error && 'code' in inner ? inner.code : undefined;
    if (typeof code === 'string') return new HttpFailure(code, { notSent: NOT_SENT.has(code), cause: error });
    reason = cause.message;
  }
  return new HttpFailure(reason, { cause: error });
}
