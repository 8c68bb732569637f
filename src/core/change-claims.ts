import type { ActionError } from '../api/action-error.js';
import type { Cluster } from '../api/cluster.js';
import type { Reply } from './call.js';

/** A change that a worker is about to make. */
export interface ChangeToClaim {
  /** Identifies the request when it is delivered again; undefined: nothing does, and only its units are claimed. */
  readonly key: string | undefined;
  /** Of the request, for the log. */
  readonly id: string;
  readonly action: string;
  /** Whether another worker may have got the same message. */
  readonly isRepeated: boolean;
  /** How long this worker has had it, at least, in milliseconds: what began in that time elsewhere may be the same message. */
  readonly heldMs: number;
}

/** `settled`: an earlier worker has finished it, and this was its reply. */
export type Claimed = { state: 'held'; claim: Claim } | { state: 'settled'; reply: Reply };

/** The right of this worker to make one change. Ends with `settle` or `release`. */
export interface Claim {
  /** Whether an earlier worker has begun the same change, and has ended without an outcome. */
  readonly wasBegun: boolean;
  /**
   * Waits until no other worker changes this unit; none does until the claim ends.
   * @throws ActionError `service_unavailable`, or the signal's reason
   */
  lockUnit(cluster: Cluster | undefined, unit: string, signal: AbortSignal): Promise<void>;
  /**
   * Like `lockUnit`, but does not wait.
   * @returns frees the unit before the claim ends, never rejects; undefined: another worker changes the unit
   * @throws ActionError `service_unavailable`, or the signal's reason
   */
  tryLockUnit(
    cluster: Cluster | undefined,
    unit: string,
    signal: AbortSignal,
  ): Promise<(() => Promise<void>) | undefined>;
  /**
   * Notes that the change begins. Call it immediately before.
   * @throws ActionError `service_unavailable` when it must not begin, or the signal's reason
   */
  begin(signal: AbortSignal): Promise<void>;
  /**
   * Calls back when this worker can no longer be sure that no other one takes the change: stop it.
   * @returns cancels that
   */
  onLost(callback: (reason: ActionError) => void): () => void;
  /**
   * Notes the outcome. Waits some seconds for that, at most until the signal is aborted; never rejects.
   * @returns false: it was not noted, and another worker may have taken the change; true also when that is not known yet
   */
  settle(reply: Reply, signal: AbortSignal): Promise<boolean>;
  /** Gives up a change that this worker has not begun. Never rejects. */
  release(): Promise<void>;
}

/** A change could not be claimed because another worker that is alive has it. `cause`: why the wait for that one has ended. */
export class MadeElsewhere extends Error {
  override readonly name = 'MadeElsewhere';

  constructor(cause: unknown) {
    super('another worker makes the change', { cause });
  }
}

/** Where the workers agree which one makes a change. */
export interface ChangeClaims {
  /**
   * Waits while another worker that is alive makes the same change.
   * @throws MadeElsewhere, ActionError `service_unavailable`, or the signal's reason: the change has not begun here
   */
  claim(change: ChangeToClaim, signal: AbortSignal): Promise<Claimed>;
}
