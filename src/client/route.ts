import type { Caller } from '../api/caller.js';
import { type ErrorCodeInfo, errorCodeInfo } from '../api/error-codes.js';
import type { Call } from '../core/call.js';
import type { RequestBody } from '../openaperture/request-term.js';
import type { PublishRefused } from '../rpc/publish-errors.js';
import { KNOWN_READS } from './action-types.js';
import { reasonOf } from '../lib/errors.js';
import type { TraceHeaders } from '../lib/trace-context.js';

export interface CallOptions {
  /** The etcd token of the cluster, for actions that need one. */
  cluster?: string;
  parameters?: Record<string, unknown>;
  /** How long to wait for the reply, in milliseconds; the service then stops the action too. 30 s by default. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /**
   * From 0 to 255; 0 by default. Requests with a higher one are taken first from a queue that has priorities, and begin first of those
   * that wait for the same cluster. Not sent over HTTP.
   */
  priority?: number;
  /**
   * Whether the request may run twice, as reads may. If true, it is sent again when the connection is lost before the
   * broker confirmed it, and it fails with `timeout` when no reply arrives. If false, a request that was sent and got no
   * reply fails with `outcome_unknown`. By default true for the service's own reads, otherwise false.
   */
  resend?: boolean;
  /**
   * Names a change, so that it is made once however often it is asked for: a request with the key of an earlier one gets its reply.
   * 1 to 128 printable ASCII characters, such as a UUID; kept for 24 hours. Needs a claim store in the service.
   */
  idempotencyKey?: string;
  /**
   * The trace that goes on in the service: the headers `traceparent` and `tracestate`. By default that of the active span of
   * `@opentelemetry/api`; one that is not valid is not sent.
   */
  trace?: TraceHeaders;
}

/** What the gateway says besides of a request, which it makes in another's name. */
export interface RouteOptions extends CallOptions {
  /** Who asks, and how; by default the user of the connection does. */
  from?: { caller: Caller; door: Call['door'] };
  /** The id of the request in the log of the service; by default that of its message. */
  requestId?: string;
}

/** A reply as the service sent it. */
export interface AnswerEnvelope {
  status: 'completed' | 'error';
  response_body: unknown;
  /** Whether it is the reply to an earlier request with the same idempotency key. Not told by a record of the Manager. */
  replayed?: true;
  [key: string]: unknown;
}

/** A request that failed; `code` is one of the error codes of the service (docs/errors.md). */
export class FleetManagerError extends Error {
  override readonly name = 'FleetManagerError';
  readonly code: string;
  readonly details: unknown;
  /** `caller`: correct the request; `service`: the caller did nothing wrong. */
  readonly fault: ErrorCodeInfo['fault'];
  readonly retryable: boolean;
  /** The trace in which the service has recorded the request, 32 hexadecimal digits; undefined: it has named none. */
  readonly traceId: string | undefined;

  constructor(code: string, message: string, details?: unknown, traceId?: string) {
    super(message);
    this.code = code;
    this.details = details;
    this.traceId = traceId;
    ({ fault: this.fault, retryable: this.retryable } = errorCodeInfo(code));
  }
}

/** A transport for requests and replies. */
export interface Route {
  /** @throws FleetManagerError when there is no reply; the signal's reason when that is aborted */
  request(action: string, options: RouteOptions): Promise<AnswerEnvelope>;
  /** Fails the requests in flight: with `outcome_unknown` when the change may still happen, else with `cancelled`. */
  close(): Promise<void>;
}

/** A route over a connection to a broker. */
export interface BrokerRoute extends Route {
  /** Why no request can be sent now, with the broker's own text; undefined when it can. */
  readonly problem: string | undefined;
  /** Call it when `brokers` of the client returns others than before; missing where the client is given none. */
  brokersChanged?(): void;
}

/** The timeout of a call without `timeoutMs`, in milliseconds. */
export const DEFAULT_TIMEOUT_MS = 30_000;

export function closedError(): FleetManagerError {
  return new FleetManagerError('cancelled', 'the client was closed');
}

/** The error of a request that the client stops waiting for: `outcome_unknown` when the service may still run a change. */
export function abandoned(
  request: { sent: boolean; mayRunTwice: boolean },
  error: FleetManagerError,
): FleetManagerError {
  if (!request.sent || request.mayRunTwice) return error;
  return new FleetManagerError(
    'outcome_unknown',
    `${error.message}; the request was sent, so the action may or may not have run`,
  );
}

/**
 * The error of a request that the broker does not accept. A broker that refuses it for another reason than its size would
 * refuse every request, so the caller did nothing wrong.
 */
export function refused({ message, maxBytes }: PublishRefused): FleetManagerError {
  if (maxBytes === undefined)
    return new FleetManagerError('service_unavailable', `the broker refuses requests: ${message}`);
  const text = `the broker accepts at most ${maxBytes} bytes: ${message}`;
  return new FleetManagerError('request_too_large', text, { limit: maxBytes });
}

/** Whether a request may run twice. */
export function mayRunTwice(action: string, { resend }: CallOptions): boolean {
  return resend ?? KNOWN_READS.has(action);
}

/**
 * Encodes a request.
 * @throws FleetManagerError `invalid_request` when it contains a value that cannot be encoded
 */
export function encoded(encode: () => Buffer): Buffer {
  try {
    return encode();
  } catch (error) {
    const reason = reasonOf(error);
    throw new FleetManagerError('invalid_request', `the request cannot be encoded: ${reason}`);
  }
}

/** The `request_body` of a call. */
export function requestBodyOf(action: string, { cluster, parameters }: CallOptions): RequestBody {
  return {
    ...(cluster !== undefined && { etcd_token: cluster }),
    action,
    action_parameters: parameters ?? null,
  };
}
