import type { Cluster } from '../api/cluster.js';
import type { ActionDescription } from './action-description.js';
import type { Call } from './call.js';

/** A change that is about to begin. */
export interface BeginningChange {
  readonly call: Call;
  /** The name of the action. */
  readonly action: string;
  readonly cluster: Cluster | undefined;
  /** The units that its parameters name. */
  readonly units: readonly string[];
  /** Checked, with defaults filled in. */
  readonly parameters: unknown;
  /** The rule that allows it; undefined: there is no policy. */
  readonly rule: string | undefined;
  /** `probe`: it finds out what came of an earlier run, and may finish that. */
  readonly work: 'run' | 'probe';
}

/** A change that is about to begin within another one. */
export interface NestedChange extends BeginningChange {
  readonly description: ActionDescription;
}

/**
 * Like `BeforeChange`, before each change within another one.
 * @returns is told what it came to: `completed`, or the code of the error
 */
export type BeforeNestedChange = (
  change: NestedChange,
  signal: AbortSignal,
) => Promise<(outcome: string) => void>;

/**
 * Is called before each change, which begins when it resolves.
 * @param signal aborted when the change must not begin any more
 * @throws ActionError with the reason why it must not begin, or the signal's reason
 */
export type BeforeChange = (change: BeginningChange, signal: AbortSignal) => Promise<void>;
