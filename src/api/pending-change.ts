import { fieldsOf } from '../lib/fields-of.js';
import { ActionError } from './action-error.js';

/**
 * The host that may still carry out a change whose call failed with this error: it has got the request, or may have, and has
 * not answered. A frozen host reads what it has got when it goes on, also after its client has closed the connection, so
 * there is no time after which it cannot happen. undefined: no host will.
 */
export function pendingHost(error: unknown): string | undefined {
  if (!(error instanceof ActionError) || error.code !== 'outcome_unknown') return undefined;
  const { pending } = fieldsOf(error.details);
  if (pending === null) return undefined;
  return typeof pending === 'string' ? pending : 'a host of the fleet API';
}
