/**
 * Everything an action plugin needs, and nothing else. CONTRIBUTING.md shows how to write one.
 */
import type { AnyObject, InferType, ObjectSchema, Schema } from 'yup';
import type { Cluster } from './api/cluster.js';

export { ActionError } from './api/action-error.js';
export {
  canonicalHost,
  glob,
  globMatcher,
  hostAddress,
  isHostAddress,
  machineId,
  stringMap,
  unitName,
} from './api/grammar.js';
export { withTimeLimit } from './api/time-limit.js';
export { isGlobalUnit, meetsRequirements, requirementsOf } from './api/unit-requirements.js';
export type { Cluster };

const ACTION = Symbol.for('fleet-manager:action');

/** A machine of a cluster, as fleet's `GET /machines` lists it. */
export interface Machine {
  id: string;
  primaryIP: string | null;
  metadata: Record<string, string>;
}

export interface UnitOption {
  section: string;
  name: string;
  /** Empty text where fleet leaves the value out. */
  value: string;
}

/** The states that fleet takes as a unit's desired state; any other would poison the unit. */
export const DESIRED_STATES = ['inactive', 'loaded', 'launched'] as const;
export type DesiredState = (typeof DESIRED_STATES)[number];

/** A unit, as fleet's `GET /units` lists it; `null` stands where fleet leaves a key out. */
export interface Unit {
  name: string;
  options: UnitOption[];
  desiredState: string | null;
  /** Means nothing for a global unit; `launched` does not mean healthy: see the unit's states. */
  currentState: string | null;
  machineID: string | null;
}

/** What systemd on one machine says of a unit, as fleet's `GET /state` lists it. */
export interface UnitState {
  name: string;
  /** sha1 of the unit file that this state belongs to. */
  hash: string | null;
  machineID: string | null;
  systemdLoadState: string | null;
  systemdActiveState: string | null;
  systemdSubState: string | null;
}

interface Cancellable {
  /** Ends the call: the promise rejects, and the work behind it stops. */
  signal: AbortSignal;
}

/**
 * A cluster's fleet. Every method finds the cluster's hosts itself and tries another host when one does not answer;
 * each may throw an `ActionError` with `cluster_not_found`, `cluster_empty`, `discovery_unreachable`,
 * `cluster_unreachable`, `cluster_answer_invalid` or `forbidden`.
 */
export interface FleetTransport {
  machines(cluster: Cluster, options: Cancellable): Promise<Machine[]>;
  units(cluster: Cluster, options: Cancellable): Promise<Unit[]>;
  /** One unit, or undefined when the cluster has none of this name. */
  unit(cluster: Cluster, name: string, options: Cancellable): Promise<Unit | undefined>;
  /** The filters are exact and combine. */
  unitStates(
    cluster: Cluster,
    options: Cancellable & { unitName?: string; machineID?: string },
  ): Promise<UnitState[]>;
  /** Throws `unit_not_found`; `outcome_unknown` when the connection was lost under way. */
  setDesiredState(cluster: Cluster, name: string, state: DesiredState, options: Cancellable): Promise<void>;
  /** Creates the unit, or replaces it where its options differ. */
  putUnit(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options: UnitOption[] },
    options: Cancellable,
  ): Promise<void>;
  /** False: it was not there. */
  destroyUnit(cluster: Cluster, name: string, options: Cancellable): Promise<boolean>;
}

/** For plugins that need the member hosts themselves. */
export interface EtcdResolver {
  /** The base URLs of the cluster's fleet APIs, such as `http://10.0.0.1:49153`. */
  endpoints(cluster: Cluster, options: Cancellable): Promise<URL[]>;
}

/** Runs commands on machines. */
export interface RemoteShell {
  /**
   * Runs one program with its arguments; no shell reads them. A failure is an `ActionError`, never an empty output.
   * @param host an address or host name, however it is written; `forbidden` where policy does not allow it
   */
  run(
    host: string,
    argv: readonly [string, ...string[]],
    options: Cancellable & { timeoutMs: number; maxOutputBytes: number; sudo?: boolean },
  ): Promise<{ stdout: string; stderr: string; truncated: boolean }>;
}

/** Time, so that tests can set it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after so many milliseconds; rejects with the signal's reason when that is aborted first. */
  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** Calls back after so many milliseconds, unless cancelled by calling what it returns. */
  after(ms: number, callback: () => void): () => void;
}

/** A log bound to one request: its id, action and cluster stand in every line. */
export interface RequestLog {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** Names a part of the service that an action can ask for in `inject`. */
export type Token<T> = symbol & { readonly __gives?: T };

// One per process even when a plugin brings its own copy of this package.
export const FleetTransport: Token<FleetTransport> = Symbol.for('fleet-manager:FleetTransport');
export const EtcdResolver: Token<EtcdResolver> = Symbol.for('fleet-manager:EtcdResolver');
export const RemoteShell: Token<RemoteShell> = Symbol.for('fleet-manager:RemoteShell');
export const Clock: Token<Clock> = Symbol.for('fleet-manager:Clock');

/** `cluster`: needs an `etcd_token`. `optional`: takes one. `none`: refuses one. */
export type Target = 'cluster' | 'optional' | 'none';

/** What `handle` gets. */
export interface ActionRequest<P, C> {
  /** Checked against the action's schema, defaults filled in. */
  parameters: P;
  cluster: C;
  /** Aborted at the deadline, when the caller is gone, and when the service must stop. Pass it on. */
  signal: AbortSignal;
  log: RequestLog;
  /** The request's id as the logs show it. */
  id: string;
}

type ClusterOf<T extends Target> = T extends 'cluster'
  ? Cluster
  : T extends 'optional'
    ? Cluster | undefined
    : undefined;
type Injected<I extends Record<string, Token<unknown>>> = {
  readonly [K in keyof I]: I[K] extends Token<infer T> ? T : never;
};

/** What an action declares of itself; see `defineAction`. */
export interface ActionDefinition<
  P extends ObjectSchema<AnyObject>,
  R extends Schema,
  T extends Target,
  I extends Record<string, Token<unknown>>,
> {
  /** The action's name on the wire, `snake_case`, unique among all plugins. */
  name: string;
  /** One sentence for the catalogue. */
  summary: string;
  target: T;
  /** `read` leaves the cluster as it is. A `change` is left out when `READ_ONLY` is set. */
  effect: 'read' | 'change';
  /**
   * What becomes of a request that RabbitMQ delivers again after a worker was lost: `run-again`, or `refuse`, which
   * answers `outcome_unknown`. Left out: reads run again, changes refuse.
   */
  redelivery?: 'run-again' | 'refuse';
  /**
   * The shape of `action_parameters`. Values are checked as sent: no casting, no unknown keys at any level. Every
   * field has `meta({ description })`; a field with a `.test()` of its own also has `meta({ format })`.
   */
  parameters: P;
  /** The shape of the answer: types what `handle` returns and feeds the catalogue. Not run on each answer. */
  result: R;
  /** How long one run may take, in milliseconds; at most the service's five minutes. */
  timeoutMs?: number;
  /** The parts of the service that `handle` needs, by token. */
  inject?: I;
  handle(request: ActionRequest<InferType<P>, ClusterOf<T>>, injected: Injected<I>): Promise<InferType<R>>;
  /** Called once when the service stops. */
  dispose?(): void | Promise<void>;
}

/** An action as the runtime holds it, its own types set aside. */
export interface Action {
  readonly name: string;
  readonly summary: string;
  readonly target: Target;
  readonly effect: 'read' | 'change';
  readonly redelivery?: 'run-again' | 'refuse';
  readonly parameters: ObjectSchema<AnyObject>;
  readonly result: Schema;
  readonly timeoutMs?: number;
  readonly inject?: Record<string, Token<unknown>>;
  handle(
    request: ActionRequest<unknown, Cluster | undefined>,
    injected: Record<string, unknown>,
  ): Promise<unknown>;
  dispose?(): void | Promise<void>;
}

/** Declares an action; a plugin's entry file exports what this returns as its default. */
export function defineAction<
  P extends ObjectSchema<AnyObject>,
  R extends Schema,
  T extends Target,
  const I extends Record<string, Token<unknown>> = Record<never, never>,
>(definition: ActionDefinition<P, R, T, I>): Action {
  const action: unknown = Object.freeze({ ...definition, [ACTION]: true });
  // Sets the definition's own types aside: the runtime checks parameters and resolves parts before each call.
  return action as Action;
}

/** Whether a value came from `defineAction`, of this copy of the package or of another. */
export function isAction(value: unknown): value is Action {
  return typeof value === 'object' && value !== null && ACTION in value;
}
