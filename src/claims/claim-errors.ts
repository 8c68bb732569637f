import { ActionError } from '../api/action-error.js';

/** The error of a change that must not begin, because nothing shows that no other worker makes it. */
export function unavailable(reason: string, cause?: unknown): ActionError {
  return new ActionError(
    'service_unavailable',
    `The change was not begun: the claim store, without which no change is made, cannot be used: ${reason}`,
    { cause },
  );
}

/** The error of a change whose idempotency key its caller has used for another one. */
export function keyReused(): ActionError {
  return new ActionError(
    'idempotency_key_reused',
    'Nothing was done: the idempotency key of this request was used for a request with another action, cluster or parameters; give each change a key of its own',
  );
}

/** Why a change is stopped when its worker has not reached the store for a while. */
export function leaseLost(): ActionError {
  return new ActionError(
    'service_unavailable',
    'The claim store could not be reached, so that another worker may soon take the change',
  );
}
