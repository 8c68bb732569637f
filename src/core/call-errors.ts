import { ActionError } from '../api/action-error.js';
import type { Logger } from '../lib/logger.js';
import type { ErrorBody, Failed, FieldProblem } from './call.js';
import { unsendableIn } from './unsendable.js';

/** The error for an invalid field of a call. */
export function invalidRequest({ field, message }: FieldProblem): ActionError {
  return new ActionError('invalid_request', message, { details: { fields: [{ field, message }] } });
}

/** How a call settles after an error. The caller gets no details of an error that is not an `ActionError`. */
export function settledWith(error: unknown, id: string): Failed {
  const body = bodyOf(error);
  if (body !== undefined) return { status: 'error', body };
  const message = `An unexpected failure; the service's log has the reason under the request id ${id}`;
  return { status: 'error', body: { errors: [message], code: 'internal' }, cause: error };
}

/** What a caller gets to know of a thrown value: undefined when it is no valid `ActionError`. Never throws. */
export function bodyOf(error: unknown): ErrorBody | undefined {
  try {
    if (!(error instanceof ActionError)) return undefined;
    const { code, message, details } = error;
    // The fields may have been changed after the constructor checked them.
    if (typeof code !== 'string' || typeof message !== 'string') return undefined;
    return { errors: [message], code, ...(details !== undefined && { details }) };
  } catch {
    // A getter of the value throws, or it is a proxy.
    return undefined;
  }
}

/** The error without its details when they cannot be sent: its code must not be lost because of them. */
export function withSendableDetails({ details, ...body }: ErrorBody, log: Logger): ErrorBody {
  const problem = unsendableIn(details, 'details');
  if (problem === undefined) return details === undefined ? body : { ...body, details };
  log.error('error details left out', { reason: problem });
  return body;
}
