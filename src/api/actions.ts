import type { ActionDescription } from './action-description.js';
import type { Token } from './token.js';

export interface NestedCallOptions {
  /** How long the run may take, in milliseconds; at most what the action itself and the request have left. */
  timeoutMs?: number;
  /** Stops this run only; that of the request always does. */
  signal?: AbortSignal;
}

/** The other actions of this service. */
export interface Actions {
  /**
   * Runs another action within this request: for the same caller, against the same cluster, with the request's id and its signal. The policy
   * decides on it as on a request of its own. A read cannot call a change. A change is audited for itself, and it takes the turn of
   * its units: of those that this request does not have, one that another change uses is `cluster_busy` at once.
   * @param parameters its `action_parameters`, checked by its schema
   * @returns its result as plain data; lists are arrays
   * @throws ActionError of that action, `forbidden`, `cluster_busy`, `timeout`, or the signal's reason
   * @throws ActionCallError when the call itself is wrong: it is a defect of the action that calls, and the caller of that gets `internal`
   */
  call<Result = unknown>(name: string, parameters?: object, options?: NestedCallOptions): Promise<Result>;
  /** The descriptions of all actions that this service serves, by name in alphabetical order. */
  describe(): readonly ActionDescription[];
}
export const Actions: Token<Actions> = Symbol.for('fleet-manager:Actions');

/**
 * An action was called in a way in which it cannot be. It is no `ActionError`, since the caller of the request cannot mend it.
 */
export class ActionCallError extends Error {
  override readonly name = 'ActionCallError';

  /** @param code that a caller would get: `unknown_action`, `invalid_parameters`, `invalid_request` */
  constructor(
    readonly code: string,
    message: string,
    /** The problems of the parameters. */
    readonly details?: unknown,
  ) {
    super(message);
  }
}
