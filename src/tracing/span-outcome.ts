import { type Span, SpanStatusCode } from '@opentelemetry/api';
import { errorCodeInfo } from '../api/error-codes.js';
import { ATTRIBUTES } from './attributes.js';

/** Codes of failures that somebody must look into although their fault is nobody else's. */
const SERIOUS: ReadonlySet<string> = new Set(['internal', 'worker_lost']);

/** Notes the code with which a request has failed. The mistakes of callers are no errors of the service. */
export function noteFailure(span: Span, code: string): void {
  span.setAttribute(ATTRIBUTES.errorType, code);
  if (!SERIOUS.has(code) && errorCodeInfo(code).fault === 'caller') return;
  // Not the text of the error: it may quote parameters.
  span.setStatus({ code: SpanStatusCode.ERROR, message: code });
}
