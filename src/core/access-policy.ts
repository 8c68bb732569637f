import type { Caller } from '../api/caller.js';
import type { Cluster } from '../api/cluster.js';
import type { ActionDescription } from './action-description.js';
import type { UnitMarks } from './unit-parameters.js';

/** What a call is going to do. */
export interface AccessQuestion {
  readonly caller: Caller;
  readonly action: Pick<ActionDescription, 'name' | 'effect'>;
  readonly cluster: Cluster | undefined;
  /** The units that its parameters name. */
  readonly units: readonly string[];
  /** Whether its parameters could name units. The handler asks `authorize` about the units that it finds itself. */
  readonly unitMarks: UnitMarks;
}

export type AccessDecision =
  | {
      readonly allowed: true;
      /** The name of the rule that allows it, for the audit. */
      readonly rule: string;
      /** The patterns of the units that it may see or change; undefined: all. */
      readonly units: readonly string[] | undefined;
    }
  /** `needed`: a sentence that says which rule would allow it. */
  | { readonly allowed: false; readonly needed: string };

/** Decides which callers may do what. */
export interface AccessPolicy {
  decide(question: AccessQuestion): AccessDecision;
}
