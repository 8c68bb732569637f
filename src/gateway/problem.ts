import { STATUS_CODES } from 'node:http';
import { errorCodeInfo } from '../api/error-codes.js';
import { errorBodyOf } from '../client/error-body.js';
import { prefers } from './accept.js';

/** The media type of problem details (RFC 9457). */
export const PROBLEM_TYPE = 'application/problem+json';
/** How the `type` of a problem begins; the error code follows. */
export const PROBLEM_URN = 'urn:fleet-manager:error:';

/** The codes of the service; a plugin may have others. */
const CODE = /^[\w.-]{1,100}$/;

/** An error as problem details (RFC 9457). */
export interface Problem {
  /** Names the error code; `about:blank` when there is none. */
  type: string;
  /** What the code means; the same for each error with this code. */
  title: string;
  /** The status of the response. */
  status: number;
  /** What has happened, for people. */
  detail: string;
  code: string | undefined;
  errors: readonly string[];
  details: unknown;
  trace_id: string | undefined;
}

/** Whether a caller wants its errors as problem details. @param accept the header `Accept` */
export function prefersProblem(accept: string | undefined): boolean {
  return prefers(accept, PROBLEM_TYPE, 'application/json');
}

/** @param body the `response_body` of an error reply */
export function problemDetails(status: number, body: unknown): Problem {
  const { errors, code, details, traceId } = errorBodyOf(body);
  const isNamed = code !== undefined && CODE.test(code);
  return {
    type: isNamed ? `${PROBLEM_URN}${code}` : 'about:blank',
    title: isNamed ? errorCodeInfo(code).summary : (STATUS_CODES[status] ?? 'Error'),
    status,
    detail: errors.join('; '),
    code,
    errors,
    details,
    trace_id: traceId,
  };
}
