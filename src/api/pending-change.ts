import { fieldsOf } from '../lib/fields-of.js';
import { ActionError } from './action-error.js';

/**
 * The hosts that may still carry out a change whose call failed with this error: they have got the request, or may have, and
 * have not answered. A frozen host reads what it has got when it goes on, also after its client has closed the connection,
 * so there is no time after which it cannot happen.
 */
export function pendingHosts(error: unknown): string[] {
  if (!(error instanceof ActionError) || error.code !== 'outcome_unknown') return [];
  const { mayChangeLater } = fieldsOf(error.details);
  return Array.isArray(mayChangeLater) ? mayChangeLater.map(String) : ['a host of the fleet API'];
}
