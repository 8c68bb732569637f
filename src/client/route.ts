import { type ErrorCodeInfo, errorCodeInfo } from '../action-error.js';

export interface CallOptions {
  /** The etcd token of the cluster, for actions that need one. */
  cluster?: string;
  parameters?: Record<string, unknown>;
  /** How long to wait for the answer, in milliseconds; the service stops its work then too. 30 s by default. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /**
   * Whether the request may be sent again when the connection was lost before the broker confirmed it, and so may be
   * run twice. Set it for reads. Otherwise such a request fails with `outcome_unknown`.
   */
  resend?: boolean;
}

/** An answer as the service sent it. */
export interface AnswerEnvelope {
  status: 'completed' | 'error';
  response_body: unknown;
  [key: string]: unknown;
}

/** A request that brought no result; `code` is one of the error codes of the service (docs/errors.md). */
export class FleetManagerError extends Error {
  override readonly name = 'FleetManagerError';
  readonly code: string;
  readonly details: unknown;
  /** `caller`: the request is to be mended; `service`: it is not the caller's fault. */
  readonly fault: ErrorCodeInfo['fault'];
  readonly retryable: boolean;

  constructor(code: string, message: string, details?: unknown) {
    super(message);
    this.code = code;
    this.details = details;
    ({ fault: this.fault, retryable: this.retryable } = errorCodeInfo(code));
  }
}

/** A way to the service and back. */
export interface Route {
  /** @throws FleetManagerError when there is no answer; the signal's reason when that is aborted */
  request(action: string, options: CallOptions): Promise<AnswerEnvelope>;
  /** Fails what is still waiting with `cancelled`. */
  close(): Promise<void>;
}

/** How long a call waits that does not say so, in milliseconds. */
export const DEFAULT_TIMEOUT_MS = 30_000;

export function closedError(): FleetManagerError {
  return new FleetManagerError('cancelled', 'the client was closed');
}

export function lostError(): FleetManagerError {
  return new FleetManagerError(
    'outcome_unknown',
    'the connection was lost before the broker confirmed the request',
  );
}

/**
 * A request as it goes out.
 * @throws FleetManagerError `invalid_request` when there is no form in which what it holds can be sent
 */
export function encoded(encode: () => Buffer): Buffer {
  try {
    return encode();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FleetManagerError('invalid_request', `the request cannot be encoded: ${reason}`);
  }
}

/** The `request_body` of a call. */
export function requestBodyOf(action: string, { cluster, parameters }: CallOptions): Record<string, unknown> {
  return {
    ...(cluster !== undefined && { etcd_token: cluster }),
    action,
    action_parameters: parameters ?? null,
  };
}
