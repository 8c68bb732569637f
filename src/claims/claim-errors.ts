import { ActionError } from '../api/action-error.js';

/** The error of a change that must not begin, because nothing shows that no other worker makes it. */
export function unavailable(reason: string, cause?: unknown): ActionError {
  return new ActionError(
    'service_unavailable',
    `The change was not begun: the claim store, without which no change is made, cannot be used: ${reason}`,
    { cause },
  );
}

/** Why a change is stopped when its worker has not reached the store for a while. */
export function leaseLost(): ActionError {
  return new ActionError(
    'service_unavailable',
    'The claim store could not be reached, so that another worker may soon take the change',
  );
}
