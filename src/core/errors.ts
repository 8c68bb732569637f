import { ActionError } from '../api/action-error.js';
import type { FieldProblem, Settled } from './call.js';

/** The error for a field that cannot be used. */
export function invalidRequest({ field, message }: FieldProblem): ActionError {
  return new ActionError('invalid_request', message, { details: { fields: [{ field, message }] } });
}

/** How a call settles when something was thrown. The caller sees nothing of an error that is no `ActionError`. */
export function settledWith(error: unknown, id: string): Extract<Settled, { status: 'error' }> {
  if (error instanceof ActionError) {
    const { code, message, details } = error;
    return { status: 'error', body: { errors: [message], code, ...(details !== undefined && { details }) } };
  }
  const message = `An unexpected failure; the service's log has the reason under the request id ${id}`;
  return { status: 'error', body: { errors: [message], code: 'internal' }, cause: error };
}
