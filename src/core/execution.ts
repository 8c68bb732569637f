import { ActionError } from '../api/action-error.js';
import type { Cluster } from '../api/cluster.js';
import type { Clock } from '../lib/clock.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';
import type { Admitted } from './admission.js';
import type { Call, Settled } from './call.js';
import { bodyOf, settledWith } from './call-errors.js';
import { unsendableIn } from './unsendable.js';
import { Warnings } from './warnings.js';

export interface ExecutionOptions {
  clock: Clock;
  /** Called when a run shows that its cluster can be reached, or that it cannot. */
  onReached: (cluster: Cluster) => void;
  onUnreachable: (cluster: Cluster) => void;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
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
]);

// Until there is a policy, and until callers accept parts.
const ALLOW = () => true;
const IGNORE = () => {};

/** One run of an action's handler. */
export class Execution {
  readonly #call: Call;
  readonly #admitted: Admitted;
  readonly #deadline: number;
  readonly #options: ExecutionOptions;
  readonly #abort = new LazyAbort();
  readonly #warnings = new Warnings();
  #cancelSettling = IGNORE;
  #giveUp: (error: ActionError) => void = IGNORE;

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
      return this.#warnings.addedTo(this.#withoutUnsendable(settledWith(error, this.#call.id)));
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

  /** The code of an error must not be lost because of its details. */
  #withoutUnsendable<S extends Extract<Settled, { status: 'error' }>>(settled: S): S {
    const { details, ...body } = settled.body;
    const problem = unsendableIn(details, 'details');
    if (problem === undefined) return settled;
    this.#options.logFor({ request: this.#call.id }).error('error details left out', { reason: problem });
    return { ...settled, body };
  }

  async #handle(): Promise<unknown> {
    const { action, parameters, cluster } = this.#admitted;
    const { id, caller, delivery } = this.#call;
    const { logFor, onReached, onUnreachable } = this.#options;
    const abort = this.#abort;
    const fields = {
      request: id,
      action: action.description.name,
      ...(cluster && { cluster: cluster.hash }),
    };
    try {
      return await action.run({
        parameters,
        cluster,
        // Created only when it is read: a signal is a large part of the cost of a small request.
        get signal() {
          return abort.signal;
        },
        deadline: this.#deadline,
        log: logFor(fields),
        id,
        caller,
        repeated: delivery === 'repeated',
        warn: (text) => this.#warnings.add(text),
        authorize: ALLOW,
        emit: IGNORE,
      });
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
