import { ActionError } from '../api/action-error.js';
import type { FieldProblem, Settled } from './call.js';

/** The error for an invalid field of a call. */
export function invalidRequest({ field, message }: FieldProblem): ActionError {
  return new ActionError('invalid_request', message, { details: { fields: [{ field, message }] } });
}

/** How a call settles after an error. The caller gets no details of an error that is not an `ActionError`. */
export function settledWith(error: unknown, id: string): Extract<Settled, { status: 'error' }> {
  if (error instanceof ActionError) {
    const { code, message, details } = error;
    return { status: 'error', body: { errors: [message], code, ...(details !== undefined && { details }) } };
  }
  const message = `An unexpected failure; the service's log has the reason under the request id ${id}`;
  return { status: 'error', body: { errors: [message], code: 'internal' }, cause: error };
}
