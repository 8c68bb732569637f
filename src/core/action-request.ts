import type { ActionRequest } from '../api/action.js';
import type { Caller } from '../api/caller.js';
import type { Cluster } from '../api/cluster.js';
import type { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';

/** One run of a handler, in this process. */
export interface HandlerRun {
  id: string;
  /** The name of the action. */
  action: string;
  parameters: unknown;
  cluster: Cluster | undefined;
  caller: Caller;
  repeated: boolean;
  /** In the clock's milliseconds. */
  deadline: number;
  abort: LazyAbort;
  warn: (text: string) => void;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

// Until there is a policy, and until callers accept parts.
const ALLOW = () => true;
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
  deadline: number;
  id: string;
  caller: Caller;
  repeated: boolean;
  warn: (text: string) => void;
  authorize = ALLOW;
  emit = IGNORE;

  constructor(run: HandlerRun) {
    const { id, action, parameters, cluster, caller, repeated, deadline, warn } = run;
    this.#abort = run.abort;
    this.parameters = parameters;
    this.cluster = cluster;
    this.deadline = deadline;
    this.id = id;
    this.caller = caller;
    this.repeated = repeated;
    this.warn = warn;
    this.log = run.logFor(
      cluster === undefined ? { request: id, action } : { request: id, action, cluster: cluster.hash },
    );
    Object.defineProperty(this, 'signal', RunRequest.#signalOnDemand);
  }
}
