import type { AnyObject, InferType, ObjectSchema, Schema } from 'yup';
import type { Logger } from '../lib/logger.js';
import type { Caller } from './caller.js';
import type { Cluster } from './cluster.js';
import type { RowList } from './row-list.js';
import type { Token } from './token.js';
import type { Warn } from './warn.js';

const ACTION = Symbol.for('fleet-manager:action');

/**
 * The major version of the contract between this service and its plugins: `defineAction`, the arguments of `handle`,
 * and the tokens. It changes only when plugins must change too.
 */
export const CONTRACT_VERSION = 1;

/** The log of one request: every line has the request's id, action and cluster as fields. */
export type RequestLog = Logger;

/** `cluster`: needs an `etcd_token`. `optional`: accepts one. `none`: refuses one. */
export type Target = 'cluster' | 'optional' | 'none';

/** The stop of the service, as a handler learns of it. */
export interface Drain {
  /** Aborted when the service begins to stop: a change of many parts begins no further part then. */
  readonly signal: AbortSignal;
  /**
   * Until when a change must have reported its outcome, in monotonic milliseconds as `now()` of the token `Clock` tells them;
   * `Infinity` while the service does not stop.
   */
  readonly reportBy: number;
}

/** The first argument of `handle`. */
export interface ActionRequest<P, C, S = unknown> {
  /** Checked against the action's schema, defaults filled in. */
  parameters: P;
  cluster: C;
  /** The settings that the action declares, with defaults filled in, frozen; empty when it declares none. Never log a secret one. */
  settings: S;
  /** Aborted at the deadline, and when the grace time of a shutdown ends. Pass it to everything that takes a signal. */
  signal: AbortSignal;
  /** Tells a stop of the service before `signal` is aborted for it, while what runs still has time to end. */
  drain: Drain;
  /**
   * The latest time at which the signal is aborted, in monotonic milliseconds: it means something only in comparison with
   * `now()` of the token `Clock`.
   */
  deadline: number;
  log: RequestLog;
  /** The request's id, as in the logs. */
  id: string;
  /**
   * Names this request and no other one, the same whenever it is delivered and to whichever worker; of an action that another one calls,
   * it names that call. Undefined: nothing does, so a repeated request cannot be told from a new one.
   */
  key: string | undefined;
  caller: Caller;
  /** Whether another worker may have begun this request before; false when it is known that none has. */
  repeated: boolean;
  /** Adds a sentence for people to the reply, when the result is right but may lack something, and facts for programs. */
  warn: Warn;
  /**
   * Whether the caller may see or change this unit. Call it for units that the parameters do not name: leave out of a list those
   * that it refuses, and refuse to change them with the error `forbidden`.
   */
  authorize: (unit: string) => boolean;
  /** Whether `authorize` allows every unit, so that a long list needs no look at each. */
  authorizesAll: boolean;
  /** Sends a part of the result before the whole result, to a caller that accepts parts. No caller does yet. */
  emit: (part: unknown) => void;
}

type ClusterOf<T extends Target> = T extends 'cluster'
  ? Cluster
  : T extends 'optional'
    ? Cluster | undefined
    : undefined;
type Injected<I extends Record<string, Token<unknown>>> = {
  readonly [K in keyof I]: I[K] extends Token<infer T> ? T : never;
};

/** What the schema declares. A list can also be a `RowList`. */
type ResultOf<R extends Schema> =
  | InferType<R>
  | (InferType<R> extends readonly (infer Row)[] ? RowList<Row> : never);

/** The declaration of an action; see `defineAction`. */
export interface ActionDefinition<
  P extends ObjectSchema<AnyObject>,
  R extends Schema,
  T extends Target,
  I extends Record<string, Token<unknown>>,
  S extends ObjectSchema<AnyObject> = ObjectSchema<Record<never, never>>,
> {
  /** The action's name on the wire, `snake_case`, unique among all plugins. */
  name: string;
  /** One sentence for the catalogue. */
  summary: string;
  target: T;
  /** `read` does not change the cluster. A `change` is not served when `READ_ONLY` is set. */
  effect: 'read' | 'change';
  /**
   * What happens to a request that RabbitMQ delivers again after a worker was lost: `run-again`, or `refuse` with the
   * error `outcome_unknown`. Default: a read runs again, a change is refused.
   */
  redelivery?: 'run-again' | 'refuse';
  /**
   * `true`, only of a read: requests with equal parameters for the same cluster share runs. A request that comes while one
   * runs waits for the next run, which begins after it. Such a run has no caller: `caller` is always anonymous. It has the
   * `id` of one of its requests, and the latest of their deadlines. Leave it out when the result depends on any of these.
   */
  coalesce?: boolean;
  /**
   * The schema of `action_parameters`. Values are checked as sent: no casting, no unknown keys at any level. Every
   * field needs `meta({ description })`; a field with a custom `.test()` also needs `meta({ format })`.
   */
  parameters: P;
  /**
   * The schema of the result: the type of what `handle` returns, and its description in the catalogue. Results are not
   * checked in production.
   */
  result: R;
  /**
   * What operators set for the action: each field is the setting `PLUGIN_<NAME>_<FIELD>`, in upper case, such as
   * `PLUGIN_COUNT_UNITS_MAX_AGE` for `maxAge` of `count_units`. Every field needs `meta({ description })`, and a secret one
   * `meta({ secret: true })`. A service that serves the action does not start while one is missing or wrong.
   */
  settings?: S;
  /** How long one run may take, in milliseconds; at most the service's five minutes. */
  timeoutMs?: number;
  /** The dependencies that `handle` needs, by token. */
  inject?: I;
  /** The version of the plugin contract that the plugin was written for; by default this `CONTRACT_VERSION`. */
  contract?: number;
  handle(
    request: ActionRequest<InferType<P>, ClusterOf<T>, Readonly<InferType<S>>>,
    injected: Injected<I>,
  ): Promise<ResultOf<R>>;
  /**
   * Finds out what came of an earlier run of the same request, whose worker has ended in the middle of it. It may finish what
   * that run began. No other change of the same units runs meanwhile. It is used only where workers have a claim store; without
   * it such a change is run again or refused, as `redelivery` says.
   * @returns the result of the request; undefined: it cannot be known, and the caller gets `outcome_unknown`
   */
  probe?(
    request: ActionRequest<InferType<P>, ClusterOf<T>, Readonly<InferType<S>>>,
    injected: Injected<I>,
  ): Promise<ResultOf<R> | undefined>;
  /** Called once when the service stops. */
  dispose?(): void | Promise<void>;
}

/** An action as the service uses it, without the types of its parameters and result. */
export interface Action {
  readonly name: string;
  readonly summary: string;
  readonly target: Target;
  readonly effect: 'read' | 'change';
  readonly redelivery?: 'run-again' | 'refuse';
  readonly coalesce?: boolean;
  readonly parameters: ObjectSchema<AnyObject>;
  readonly result: Schema;
  readonly settings?: ObjectSchema<AnyObject>;
  readonly timeoutMs?: number;
  readonly inject?: Record<string, Token<unknown>>;
  readonly contract?: number;
  handle(
    request: ActionRequest<unknown, Cluster | undefined>,
    injected: Record<string, unknown>,
  ): Promise<unknown>;
  probe?(
    request: ActionRequest<unknown, Cluster | undefined>,
    injected: Record<string, unknown>,
  ): Promise<unknown>;
  dispose?(): void | Promise<void>;
}

/** An action with the type of its result, as callers of its test get it. */
export interface ActionWithResult<Result> extends Action {
  handle(
    request: ActionRequest<unknown, Cluster | undefined>,
    injected: Record<string, unknown>,
  ): Promise<Result>;
}

/** Declares an action; a plugin's entry file exports the returned value as its default export. */
export function defineAction<
  P extends ObjectSchema<AnyObject>,
  R extends Schema,
  T extends Target,
  const I extends Record<string, Token<unknown>> = Record<never, never>,
  S extends ObjectSchema<AnyObject> = ObjectSchema<Record<never, never>>,
>(definition: ActionDefinition<P, R, T, I, S>): ActionWithResult<InferType<R>> {
  const action: unknown = Object.freeze({
    contract: CONTRACT_VERSION,
    ...definition,
    [ACTION]: CONTRACT_VERSION,
  });
  // The definition's types can be dropped: the service checks the parameters before it calls `handle`.
  return action as ActionWithResult<InferType<R>>;
}

/** Whether a value was made by `defineAction`, of this copy of the package or of another copy. */
export function isAction(value: unknown): value is Action {
  return typeof value === 'object' && value !== null && ACTION in value;
}

/**
 * The version of the plugin contract that an action was written for: the version that it declares, or else the version
 * of the copy of `defineAction` that made it. The service serves only actions of its own `CONTRACT_VERSION`.
 */
export function contractVersionOf(action: Action): number {
  const copy: unknown = Reflect.get(action, ACTION);
  const { contract = CONTRACT_VERSION } = action;
  return contract === CONTRACT_VERSION && typeof copy === 'number' ? copy : contract;
}
