/**
 * - `unreachable`: there was no response
 * - `refused`: the OAuth server or the Manager refuses this client
 * - `not_found`: the Manager has no such resource
 * - `failed`: a response with any other HTTP status than success
 * - `invalid_response`: a response that does not match the Manager's API, such as the page of a proxy in front of it
 */
export type ManagerErrorKind = 'unreachable' | 'refused' | 'not_found' | 'failed' | 'invalid_response';

/** The longest `Retry-After` that is obeyed: a request is waiting. */
const MAX_RETRY_AFTER_MS = 30_000;

interface ManagerErrorDetails {
  /** The HTTP status of the response, when there was one. */
  status?: number;
  /** The call certainly did not reach the Manager. */
  notSent?: boolean;
  /** The wait that the response asked for before a retry. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** A call to the Manager that failed; the message says what to do about it. */
export class ManagerError extends Error {
  override readonly name = 'ManagerError';
  readonly kind: ManagerErrorKind;
  readonly status: number | undefined;
  readonly notSent: boolean;
  /** The wait that the response asked for before a retry, at most 30 s; 0 when it asked for none. */
  readonly retryAfterMs: number;

  constructor(kind: ManagerErrorKind, message: string, details: ManagerErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.kind = kind;
    this.status = details.status;
    this.notSent = details.notSent ?? false;
    this.retryAfterMs = Math.min(details.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS);
  }

  /** Whether the same call may succeed later: the Manager did not process it, or its refusal may not be final. */
  get temporary(): boolean {
    const { kind, status = 0, notSent } = this;
    if (kind === 'failed') return notSent || status < 400 || status === 408 || isBusy(status);
    // The next token may be accepted. The Manager never responds with 403: that comes from a proxy, as what cannot be read.
    return kind !== 'not_found';
  }

  /** Whether a retry after a short wait may succeed. */
  get retryable(): boolean {
    return this.kind === 'unreachable' || (this.status !== undefined && isBusy(this.status));
  }
}

function isBusy(status: number): boolean {
  return status === 429 || status >= 500;
}
