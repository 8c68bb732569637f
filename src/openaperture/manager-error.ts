/**
 * - `unreachable`: no answer came
 * - `refused`: the OAuth server or the Manager does not let this client in
 * - `not_found`: the Manager has no such thing
 * - `failed`: an answer with another HTTP status than success
 * - `invalid_answer`: an answer that is not what the Manager's API says
 */
export type ManagerErrorKind = 'unreachable' | 'refused' | 'not_found' | 'failed' | 'invalid_answer';

/** However long the Manager asks to wait, somebody waits here. */
const MOST_RETRY_AFTER_MS = 30_000;

interface ManagerErrorDetails {
  /** The HTTP status of the answer, when there was one. */
  status?: number;
  /** It is certain that the Manager has not seen the call. */
  notSent?: boolean;
  /** What the answer asked to wait before the next try. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** A call to the Manager that brought nothing; the message says what to do about it. */
export class ManagerError extends Error {
  override readonly name = 'ManagerError';
  readonly kind: ManagerErrorKind;
  readonly status: number | undefined;
  readonly notSent: boolean;
  /** What the answer asked to wait before the next try, half a minute at most; 0 when it asked nothing. */
  readonly retryAfterMs: number;

  constructor(kind: ManagerErrorKind, message: string, details: ManagerErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.kind = kind;
    this.status = details.status;
    this.notSent = details.notSent ?? false;
    this.retryAfterMs = Math.min(details.retryAfterMs ?? 0, MOST_RETRY_AFTER_MS);
  }

  /** Whether the same call may succeed later: the Manager has not judged it, or only for now. */
  get temporary(): boolean {
    const { kind, status = 0, notSent } = this;
    if (kind === 'refused') return notSent || status !== 403;
    if (kind === 'failed') return notSent || status < 400 || status === 408 || isBusy(status);
    // An answer that cannot be read comes from something in front of the Manager.
    return kind !== 'not_found';
  }

  /** Whether it is worth to try again at once, after a short wait. */
  get passing(): boolean {
    return this.kind === 'unreachable' || (this.status !== undefined && isBusy(this.status));
  }
}

function isBusy(status: number): boolean {
  return status === 429 || status >= 500;
}
