import { ActionError } from '../api/action-error.js';
import { type Cluster, noteResponse, tokenOf } from '../api/cluster.js';
import type { Clock } from '../lib/clock.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';
import { actionRequest } from './action-request.js';
import type { Admitted } from './admission.js';
import type { Call, Settled } from './call.js';
import { bodyOf, settledWith, withSendableDetails } from './call-errors.js';
import type { Isolation } from './isolation.js';
import { unsendableIn } from './unsendable.js';
import { Warnings } from './warnings.js';

export interface ExecutionOptions {
  clock: Clock;
  /** Called when a run shows that its cluster can be reached, or that it cannot. */
  onReached: (cluster: Cluster) => void;
  onUnreachable: (cluster: Cluster) => void;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
  /** Where the handlers of repeated calls run; undefined: in this process. */
  isolation: Pick<Isolation, 'run'> | undefined;
}

/** How long a stopped change may take to report its outcome, in milliseconds. */
export const OUTCOME_GRACE_MS = 30_000;

/** Errors that do not show whether the cluster can be reached. */
const NOT_ABOUT_REACHABILITY: ReadonlySet<string> = new Set([
  'invalid_parameters',
  'forbidden',
  'discovery_unreachable',
  'cluster_not_found',
  'cluster_empty',
  // Before the cluster was asked.
  'cluster_busy',
  'timeout',
  'cancelled',
  'outcome_unknown',
  // The process of the handler ended, or was not started.
  'worker_lost',
  'service_unavailable',
]);

/** One run of an action's handler. */
export class Execution {
  readonly #call: Call;
  readonly #admitted: Admitted;
  readonly #deadline: number;
  readonly #options: ExecutionOptions;
  readonly #abort = new LazyAbort();
  readonly #warnings = new Warnings();
  #cancelSettling = () => {};
  #giveUp: (error: ActionError) => void = () => {};

  /** @param deadline the time at which it is stopped, in the clock's milliseconds */
  constructor(call: Call, admitted: Admitted, deadline: number, options: ExecutionOptions) {
    this.#call = call;
    this.#admitted = admitted;
    this.#deadline = deadline;
    this.#options = options;
  }

  /** Runs the handler. Never rejects. */
  async run(): Promise<Settled> {
    const { cluster } = this.#admitted;
    try {
      const body = await new Promise((resolve, reject) => {
        this.#giveUp = reject;
        this.#handle().then(resolve, reject);
      });
      if (cluster !== undefined) this.#options.onReached(cluster);
      const problem = unsendableIn(body, 'result');
      if (problem !== undefined) throw new TypeError(problem);
      return this.#warnings.addedTo({ status: 'completed', body });
    } catch (error) {
      const settled = settledWith(error, this.#call.id);
      const log = this.#options.logFor({ request: this.#call.id });
      return this.#warnings.addedTo({ ...settled, body: withSendableDetails(settled.body, log) });
    } finally {
      this.#cancelSettling();
    }
  }

  /**
   * Aborts the handler's signal; only the first reason counts. A read ends immediately with that reason. A change gets
   * time to report its outcome; after that its outcome is unknown.
   */
  stop(reason: ActionError): void {
    if (this.#abort.aborted) return;
    this.#abort.abort(reason);
    if (this.#admitted.action.description.effect === 'read') return this.#giveUp(reason);
    const unknown = () => this.#giveUp(outcomeUnknown(reason));
    this.#cancelSettling = this.#options.clock.after(OUTCOME_GRACE_MS, unknown);
  }

  /** Stops it and does not wait: a change that has not reported its outcome by now has an unknown one. */
  end(reason: ActionError): void {
    this.stop(reason);
    this.#giveUp(outcomeUnknown(this.#abort.reason));
  }

  async #handle(): Promise<unknown> {
    const { action, cluster } = this.#admitted;
    const { onReached, onUnreachable } = this.#options;
    const abort = this.#abort;
    try {
      return await this.#result();
    } catch (error) {
      const known = bodyOf(error);
      if (cluster !== undefined && known !== undefined) {
        if (known.code === 'cluster_unreachable') onUnreachable(cluster);
        else if (!NOT_ABOUT_REACHABILITY.has(known.code)) onReached(cluster);
      }
      // A handler may throw any error when its signal is aborted. Only an error that it made itself reports an outcome.
      const isReport = known !== undefined && error !== abort.reason;
      if (!abort.aborted || isReport) throw error;
      throw action.description.effect === 'read' ? abort.reason : outcomeUnknown(abort.reason, error);
    }
  }

  /** The result of the handler, from wherever it runs. */
  #result(): Promise<unknown> {
    const { action, parameters, cluster } = this.#admitted;
    const { id, caller, delivery } = this.#call;
    const { isolation, logFor } = this.#options;
    const { name, redelivery } = action.description;
    const abort = this.#abort;
    const deadline = this.#deadline;
    const repeated = delivery === 'repeated';
    const warn = (text: string) => this.#warnings.add(text);
    if (!repeated || isolation === undefined) {
      const run = { id, action: name, parameters, cluster, caller, repeated, deadline, abort, warn, logFor };
      return action.run(actionRequest(run));
    }
    return isolation.run({
      id,
      action: name,
      parameters,
      token: cluster && tokenOf(cluster),
      caller,
      deadline,
      mayRunAgain: redelivery === 'run-again',
      signal: abort.signal,
      onWarning: warn,
      onResponse: () => cluster && noteResponse(cluster),
    });
  }
}

/** The error of a change that began, was stopped, and did not report what it has done. */
function outcomeUnknown(reason: unknown, cause?: unknown): ActionError {
  const known = bodyOf(reason);
  return new ActionError(
    'outcome_unknown',
    `The change was stopped and did not report its outcome: ${known?.errors.join() ?? String(reason)}`,
    { cause, ...(known && { details: { stopped_by: known.code } }) },
  );
}
