/**
 * - `unreachable`: no answer came
 * - `refused`: the OAuth server or the Manager refuses this client
 * - `not_found`: the Manager has no such thing
 * - `failed`: an answer with another HTTP status than success
 * - `invalid_answer`: an answer that does not have the form of the Manager's API
 */
export type ManagerErrorKind = 'unreachable' | 'refused' | 'not_found' | 'failed' | 'invalid_answer';

/** The longest wait, whatever the Manager requests: a caller waits for the result. */
const MOST_RETRY_AFTER_MS = 30_000;

interface ManagerErrorDetails {
  /** The HTTP status of the response, when there was one. */
  status?: number;
  /** True when it is certain that the Manager has not received the call. */
  notSent?: boolean;
  /** The wait that the answer requests before the next try. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** A failed call to the Manager; the message says what to do about it. */
export class ManagerError extends Error {
  override readonly name = 'ManagerError';
  readonly kind: ManagerErrorKind;
  readonly status: number | undefined;
  readonly notSent: boolean;
  /** The wait that the answer requests before the next try, at most half a minute; 0 when it requests none. */
  readonly retryAfterMs: number;

  constructor(kind: ManagerErrorKind, message: string, details: ManagerErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.kind = kind;
    this.status = details.status;
    this.notSent = details.notSent ?? false;
    this.retryAfterMs = Math.min(details.retryAfterMs ?? 0, MOST_RETRY_AFTER_MS);
  }

  /** Whether the same call may succeed later: the Manager has not answered it, or refused it only temporarily. */
  get temporary(): boolean {
    const { kind, status = 0, notSent } = this;
    if (kind === 'refused') return notSent || status !== 403;
    if (kind === 'failed') return notSent || status < 400 || status === 408 || isBusy(status);
    // A response that cannot be read comes from a proxy in front of the Manager.
    return kind !== 'not_found';
  }

  /** Whether it makes sense to retry soon. */
  get passing(): boolean {
    return this.kind === 'unreachable' || (this.status !== undefined && isBusy(this.status));
  }
}

function isBusy(status: number): boolean {
  return status === 429 || status >= 500;
}
