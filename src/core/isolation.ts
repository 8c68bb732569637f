import type { Drain } from '../api/action.js';
import type { Caller } from '../api/caller.js';
import type { Warn } from '../api/warn.js';
import type { Performance } from './change-gate.js';
import type { NestedAuthority } from './nested-authority.js';

/**
 * What becomes of a call when the process that it shares with others ends. `unknown`: once it has begun it may not run again, so its outcome is unknown.
 * `run-alone`: it runs once more here, alone in a process. `give-back`: any worker can take it, to run it alone.
 */
export type OnProcessEnd = 'unknown' | 'run-alone' | 'give-back';

/** The process that a call shared has ended, so it must run alone next, in any worker. */
export class MustRunAlone extends Error {
  override readonly name = 'MustRunAlone';
}

/** A call was stopped before it began, though it had a place; its cause is the reason of its signal. */
export class NeverBegan extends Error {
  override readonly name = 'NeverBegan';

  constructor(override readonly cause: unknown) {
    super('the call was stopped before it began');
  }
}

/** A call whose handler runs in another process. */
export interface IsolatedCall {
  readonly id: string;
  /** The name of the action. */
  readonly action: string;
  /** `check`: the result are the checked parameters. */
  readonly work: Performance['work'] | 'check';
  /** Names the request whenever it is delivered; undefined: nothing does. */
  readonly key: string | undefined;
  /** Whether an earlier run may have begun. */
  readonly repeated: boolean;
  /** As sent, or, to run or to probe, checked and with defaults filled in. */
  readonly parameters: unknown;
  /** The etcd token of the cluster: a secret. */
  readonly token: string | undefined;
  readonly caller: Caller;
  /** The trace that the request belongs to; undefined: none. */
  readonly traceId: string | undefined;
  /** The units that the parameters name. */
  readonly unitNames: readonly string[];
  /** The patterns of the units that the caller may see or change; undefined: all. */
  readonly units: readonly string[] | undefined;
  /** When its signal is aborted at the latest, in the clock's milliseconds. */
  readonly deadline: number;
  readonly onProcessEnd: OnProcessEnd;
  /** Whether it runs alone in a process. */
  readonly isAlone: boolean;
  /** Aborted with the `ActionError` that says why the call is stopped. */
  readonly signal: AbortSignal;
  readonly drain: Drain;
  /** Decides on the actions that it calls; undefined: it calls none. */
  readonly nested: NestedAuthority | undefined;
  /** Called when the handler warns its caller. */
  onWarning: Warn;
  /** Called when a machine of the cluster has responded. */
  onResponse(): void;
}

/** What a call needs of a place in a process. */
export type PlaceNeeds = Pick<IsolatedCall, 'deadline' | 'signal' | 'onProcessEnd' | 'isAlone'>;

/** A place for one call, in a process that responds. */
export interface IsolatedPlace {
  /** Like `Isolation.run`; leaves the place at the end. */
  run(call: IsolatedCall): Promise<unknown>;
  /** Gives the place to others; once is enough. */
  leave(): void;
}

/**
 * Runs the code of actions in other processes: a repeated call may be what ended the worker that had it before, so it must not be
 * able to end this one.
 */
export interface Isolation {
  /**
   * Waits for a place in a process, so that a change does not count as begun while it waits.
   * @throws ActionError `service_unavailable` when no process could be started within the deadline, or the signal's reason
   */
  enter(needs: PlaceNeeds): Promise<IsolatedPlace>;
  /**
   * Checks the parameters of a repeated call, or runs its handler or probe.
   * @returns its result
   * @throws what that throws: an `ActionError`, the reason of the signal, or an error with the text of any other
   * @throws NeverBegan when it was stopped, and is known not to have begun
   * @throws MustRunAlone when the process that it shared ended, and it is to be given back then
   * @throws ActionError `worker_lost` when the process ended in which it ran alone, `outcome_unknown` when its process ended, it
   * had begun and may not run again, `service_unavailable` when no process could be started within its deadline
   */
  run(call: IsolatedCall): Promise<unknown>;
  /** Ends the processes, within this time in milliseconds. Nothing may run in them any more. */
  close(withinMs: number): Promise<void>;
}
