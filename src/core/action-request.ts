import type { ActionRequest, Drain } from '../api/action.js';
import type { Caller } from '../api/caller.js';
import type { Cluster } from '../api/cluster.js';
import type { Warn } from '../api/warn.js';
import { globMatcher } from '../api/grammar.js';
import type { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';
import type { SettingValues } from './plugin-settings.js';

/** One run of a handler, in this process. */
export interface HandlerRun {
  id: string;
  /** Names the request whenever it is delivered; undefined: nothing does. */
  key: string | undefined;
  /** The name of the action. */
  action: string;
  parameters: unknown;
  cluster: Cluster | undefined;
  settings: SettingValues;
  caller: Caller;
  /** The trace that the request belongs to. */
  traceId: string | undefined;
  repeated: boolean;
  /** In the clock's milliseconds. */
  deadline: number;
  abort: LazyAbort;
  drain: Drain;
  /** The units that the parameters name. */
  unitNames: readonly string[];
  /** The patterns of the units that the caller may see or change; undefined: all. */
  units: readonly string[] | undefined;
  warn: Warn;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

const ALLOW = () => true;
// Until callers accept parts.
const IGNORE = () => {};

/** The first argument of a handler. */
export function actionRequest(run: HandlerRun): ActionRequest<unknown, Cluster | undefined> {
  return new RunRequest(run);
}

class RunRequest implements ActionRequest<unknown, Cluster | undefined> {
  /**
   * Created only when it is read: a signal is a large part of the cost of a small request. An own property, so that a copy of
   * the request has it too. The same getter for all requests, because V8 keeps much memory for each other one.
   */
  static readonly #signalOnDemand: PropertyDescriptor & ThisType<RunRequest> = {
    enumerable: true,
    get() {
      return this.#abort.signal;
    },
  };

  readonly #abort: LazyAbort;
  declare readonly signal: AbortSignal;
  readonly log: Logger;
  parameters: unknown;
  cluster: Cluster | undefined;
  settings: SettingValues;
  drain: Drain;
  deadline: number;
  id: string;
  key: string | undefined;
  caller: Caller;
  repeated: boolean;
  warn: Warn;
  authorize: (unit: string) => boolean;
  authorizesAll: boolean;
  emit = IGNORE;

  constructor(run: HandlerRun) {
    const { id, key, action, parameters, cluster, caller, traceId, repeated, deadline, units, warn } = run;
    this.#abort = run.abort;
    this.parameters = parameters;
    this.cluster = cluster;
    this.settings = run.settings;
    this.drain = run.drain;
    this.deadline = deadline;
    this.id = id;
    this.key = key;
    this.caller = caller;
    this.repeated = repeated;
    this.warn = warn;
    this.authorizesAll = units === undefined;
    this.authorize = units === undefined ? ALLOW : matcherOf(units);
    this.log = run.logFor(requestFields(id, action, { cluster, caller, units: run.unitNames, traceId }));
    Object.defineProperty(this, 'signal', RunRequest.#signalOnDemand);
  }
}

/** The fields that name a request in a line of the log. Most requests write one line or none, so they are few and cheap. */
export function requestFields(
  id: string,
  action: string | undefined,
  {
    cluster,
    caller,
    units,
    traceId,
  }: {
    cluster: Cluster | undefined;
    caller: Caller;
    units: readonly string[] | undefined;
    traceId: string | undefined;
  },
): Record<string, unknown> {
  const fields: Record<string, unknown> = { request: id };
  if (action !== undefined) fields.action = action;
  if (cluster !== undefined) fields.cluster = cluster.hash;
  fields.caller = caller.name;
  if (units !== undefined && units.length > 0) fields.unit = units.length === 1 ? units[0] : units.join(' ');
  if (traceId !== undefined) fields.trace_id = traceId;
  return fields;
}

/** Whether one of the patterns matches. */
function matcherOf(patterns: readonly string[]): (unit: string) => boolean {
  const matchers = patterns.map((pattern) => globMatcher(pattern));
  return (unit) => matchers.some((matches) => matches(unit));
}
