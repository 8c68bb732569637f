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
  const { id, action, parameters, cluster, caller, repeated, deadline, abort, warn, logFor } = run;
  return {
    parameters,
    cluster,
    // Created only when it is read: a signal is a large part of the cost of a small request.
    get signal() {
      return abort.signal;
    },
    deadline,
    log: logFor({ request: id, action, ...(cluster && { cluster: cluster.hash }) }),
    id,
    caller,
    repeated,
    warn,
    authorize: ALLOW,
    emit: IGNORE,
  };
}
