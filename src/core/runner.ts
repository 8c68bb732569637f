import { ANONYMOUS } from '../api/caller.js';
import { ActionError } from '../api/action-error.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Catalogue } from './catalogue.js';
import { CircuitBreaker } from './circuit-breaker.js';
import { FairQueue } from './fair-queue.js';
import type { FieldProblem } from './parameters.js';
import { MAX_TIMEOUT_MS, type ServedAction } from './prepare-action.js';
import { LazyAbort } from '../lib/lazy-abort.js';

/** A request as it enters the runtime; what a caller wrote is `unknown` until it has been checked here. */
export interface Request {
  /** Names the request in logs and to its handler. */
  id: string;
  action: unknown;
  etcdToken: unknown;
  parameters: unknown;
  /** The caller's deadline, in milliseconds from arrival. */
  timeoutMs: unknown;
  /** Keys of the request that no request has. */
  unknownKeys: readonly string[];
  /** False: nobody waits for an answer. */
  answerable: boolean;
  /** A worker may have begun it before: true unless it is known that none did. */
  mayHaveBegun: boolean;
  /** What it came in by; see `Dispatcher.dropWaiting`. */
  origin: object;
  /** Makes an answer ready to be sent. @returns the same, or what is sent in place of one that cannot be */
  finish: (answer: Answer) => Answer;
}

export interface ErrorBody {
  errors: string[];
  code: string;
  details?: unknown;
}

export type Answer = { status: 'completed'; body: unknown } | { status: 'error'; body: ErrorBody };

/** `not-begun`: its work was not started, and nobody has been answered. `skipped`: there was nobody to answer. */
export type Outcome = { kind: 'answered'; answer: Answer } | { kind: 'not-begun' } | { kind: 'skipped' };

/** A failure that no caller could have foreseen: a defect, or a deadline that passed. */
export interface UnhandledFailure {
  action: string;
  code: 'internal' | 'timeout';
  message: string;
}

/** A request that runs right now. */
export interface RunningRequest {
  id: string;
  action: string;
  cluster: Cluster | undefined;
  runningMs: number;
}

export interface DispatcherOptions {
  catalogue: Catalogue;
  clock: Clock;
  /** A log whose every line bears these fields. */
  logFor: (fields: Record<string, unknown>) => Logger;
  /** How many requests can be held at once; one cluster may fill three quarters of it. */
  prefetch: number;
  /** How many run at once in all, and against one cluster. */
  concurrency: number;
  clusterConcurrency: number;
  /** Told of every failure that is nobody's mistake but the service's. */
  onUnhandled?: (failure: UnhandledFailure) => void;
}

/** What a change may still take after its deadline to get to a state that can be told, in milliseconds. */
const SETTLE_MS = 30_000;

/** Failures in which the cluster was not asked, or not waited for. */
const SAYS_NOTHING_OF_THE_CLUSTER: ReadonlySet<string> = new Set([
  'invalid_parameters',
  'forbidden',
  'discovery_unreachable',
  'timeout',
  'cancelled',
  'outcome_unknown',
]);

/** The work of one request, from its checks to its answer. */
interface Job {
  readonly request: Request;
  readonly action: ServedAction;
  readonly parameters: unknown;
  readonly cluster: Cluster | undefined;
  readonly lane: string;
  readonly log: Logger;
  readonly arrivedAt: number;
  readonly order: LazyAbort;
  readonly done: (outcome: Outcome) => void;
  begunAt: number | undefined;
  cancelDeadline: () => void;
  /** Ends what runs; the reason becomes its answer. */
  stop: (reason: ActionError) => void;
  start(): void;
}

/**
 * Takes requests, checks them, and runs their actions: in turns between clusters, within bounds, each under its
 * deadline. Knows nothing of where a request came from or where its answer goes.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #queue: FairQueue;
  readonly #breaker: CircuitBreaker;
  readonly #waiting = new Set<Job>();
  readonly #running = new Set<Job>();
  #draining = false;
  #idle: (() => void) | undefined;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#queue = new FairQueue({ total: options.concurrency, perLane: options.clusterConcurrency });
    this.#breaker = new CircuitBreaker(options.clock);
  }

  /** Never rejects: whatever goes wrong becomes an answer. */
  async dispatch(request: Request): Promise<Outcome> {
    const arrivedAt = this.#options.clock.now();
    const log = this.#options.logFor({ request: request.id, ...named(request.action) });
    if (this.#draining) return { kind: 'not-begun' };
    try {
      const admitted = this.#admit(request, log, arrivedAt);
      return admitted === undefined ? { kind: 'skipped' } : await admitted;
    } catch (error) {
      const answer = request.finish(this.#failed(error, request, log));
      logEnd(log, { answer, took: this.#options.clock.now() - arrivedAt });
      return { kind: 'answered', answer };
    }
  }

  /** What runs right now. */
  running(): RunningRequest[] {
    const now = this.#options.clock.now();
    return [...this.#running].map((job) => ({
      id: job.request.id,
      action: job.action.description.name,
      cluster: job.cluster,
      runningMs: now - (job.begunAt ?? now),
    }));
  }

  /** Lets go of what came in by `origin` and has not begun: it will be delivered again. */
  dropWaiting(origin: object): void {
    for (const job of this.#waiting) if (job.request.origin === origin) this.#release(job);
  }

  /**
   * Begins nothing more, lets go of what waits, gives what runs so many milliseconds to end, then aborts it.
   * Resolves when nothing runs any more.
   */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const job of this.#waiting) this.#release(job);
    if (this.#running.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    const cancel = this.#options.clock.after(graceMs, () => {
      for (const job of this.#running) {
        job.stop(new ActionError('cancelled', 'The service is shutting down and had to stop this request'));
      }
    });
    await idle.finally(cancel);
  }

  /** Checks a request and lets it run in its turn; undefined: there is nobody to answer it to. */
  #admit(request: Request, log: Logger, arrivedAt: number): Promise<Outcome> | undefined {
    const action = this.#actionOf(request);
    const { name, effect, redelivery, timeout_ms: ownTimeout } = action.description;
    if (!request.answerable && effect === 'read') {
      log.warn('request skipped: it changes nothing and has neither a reply_to nor a record to answer to');
      return undefined;
    }
    const [unknownKey] = request.unknownKeys;
    if (unknownKey !== undefined) {
      const field = `request_body.${unknownKey.slice(0, 100)}`;
      throw invalid(
        field,
        `${field} is not part of a request: it has action, etcd_token and action_parameters`,
      );
    }
    const timeoutMs = Math.min(checkedTimeout(request.timeoutMs) ?? MAX_TIMEOUT_MS, ownTimeout);
    const cluster = clusterOf(request, action);
    const parameters = action.check(request.parameters);
    if (request.mayHaveBegun && redelivery === 'refuse') {
      throw new ActionError(
        'outcome_unknown',
        `A worker was lost while it had this request, so ${name} may or may not have been done; it is not repeated`,
      );
    }
    const lane = cluster?.hash ?? '';
    if (cluster !== undefined) this.#refuseBusy(lane);
    const bound =
      cluster === undefined
        ? log
        : this.#options.logFor({ request: request.id, action: name, cluster: lane });
    return new Promise((done) => {
      const job: Job = {
        request,
        action,
        parameters,
        cluster,
        lane,
        log: bound,
        arrivedAt,
        order: new LazyAbort(),
        done,
        begunAt: undefined,
        cancelDeadline: this.#options.clock.after(timeoutMs, () => this.#deadline(job, timeoutMs)),
        stop: () => {},
        start: () => void this.#run(job),
      };
      this.#waiting.add(job);
      this.#queue.enter(lane, job);
    });
  }

  #actionOf(request: Request): ServedAction {
    if (typeof request.action !== 'string' || request.action === '') {
      throw invalid('request_body.action', 'request_body.action must be the name of an action');
    }
    const action = this.#options.catalogue.find(request.action);
    if (action === undefined) {
      const known = this.#options.catalogue.describe().map(({ name }) => name);
      const message = `The following FleetManager action is not supported:  ${request.action.slice(0, 100)}`;
      const fields: FieldProblem[] = [{ field: 'request_body.action', message }];
      throw new ActionError('unknown_action', message, { details: { fields, actions: known } });
    }
    return action;
  }

  #refuseBusy(lane: string): void {
    // The reason for three quarters: a quarter of what can be held stays free for all the other clusters.
    if (this.#queue.held(lane) >= this.#options.prefetch * 0.75) {
      throw new ActionError(
        'cluster_busy',
        'Too many requests for this cluster are waiting; try again in a few seconds',
      );
    }
  }

  #deadline(job: Job, timeoutMs: number): void {
    const late = new ActionError(
      'timeout',
      `Request has timed out during execution! (after ${timeoutMs} ms)`,
    );
    if (!this.#withdraw(job)) return job.stop(late);
    this.#end(job, this.#failed(late, job.request, job.log));
  }

  async #run(job: Job): Promise<void> {
    this.#waiting.delete(job);
    this.#running.add(job);
    job.begunAt = this.#options.clock.now();
    const answer = await this.#answer(job);
    this.#running.delete(job);
    this.#end(job, answer);
    this.#queue.leave(job.lane);
    if (this.#running.size === 0) this.#idle?.();
  }

  async #answer(job: Job): Promise<Answer> {
    const { cluster, lane } = job;
    try {
      const pause = cluster === undefined ? 0 : this.#breaker.pauseLeft(lane);
      if (pause > 0) {
        throw new ActionError(
          'cluster_unreachable',
          `This cluster could not be reached several times in a row; it is tried again in ${Math.ceil(pause / 1000)} s`,
          { details: { retry_after_ms: pause } },
        );
      }
      const body = await this.#handle(job);
      if (cluster !== undefined) this.#breaker.reached(lane);
      return { status: 'completed', body };
    } catch (error) {
      return this.#failed(error, job.request, job.log);
    }
  }

  /**
   * Runs the handler. When it is told to stop, a read is over at once; a change is given time to say what became of
   * it, and then its outcome is unknown.
   */
  #handle(job: Job): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let cancel = () => {};
      const giveUp = () => {
        job.log.error('the action did not stop when it was told to');
        reject(
          new ActionError('outcome_unknown', 'The change was told to stop and did not say what became of it'),
        );
      };
      job.stop = (reason) => {
        // Told once: at its deadline, or at shutdown, whichever comes first.
        if (job.order.aborted) return;
        job.order.abort(reason);
        if (job.action.description.effect === 'read') reject(reason);
        else cancel = this.#options.clock.after(SETTLE_MS, giveUp);
      };
      this.#work(job)
        .then(resolve, reject)
        .finally(() => cancel());
    });
  }

  async #work({ action, parameters, cluster, order, log, request, lane }: Job): Promise<unknown> {
    try {
      return await action.run({
        parameters,
        cluster,
        // Made only when it is asked for: a signal is a large part of what a small request costs.
        get signal() {
          return order.signal;
        },
        deadline: Number.POSITIVE_INFINITY,
        log,
        id: request.id,
        caller: ANONYMOUS,
        repeated: request.mayHaveBegun,
        authorize: () => true,
        emit: () => {},
      });
    } catch (error) {
      if (cluster !== undefined && error instanceof ActionError) {
        if (error.code === 'cluster_unreachable') this.#breaker.unreachable(lane);
        else if (!SAYS_NOTHING_OF_THE_CLUSTER.has(error.code)) this.#breaker.reached(lane);
      }
      // What a handler throws because it was told to stop is told by the reason it was stopped for.
      throw order.aborted && !(error instanceof ActionError) ? order.reason : error;
    }
  }

  #failed(error: unknown, request: Request, log: Logger): Answer {
    if (error instanceof ActionError) {
      const { code, message, details } = error;
      if (code === 'timeout') {
        this.#options.onUnhandled?.({ action: String(request.action), code, message });
      }
      return {
        status: 'error',
        body: { errors: [message], code, ...(details !== undefined && { details }) },
      };
    }
    log.error('the action failed unforeseen', {
      error: error instanceof Error ? error.stack : String(error),
    });
    const message = `An unforeseen failure; the service's log has the reason under the request id ${request.id}`;
    this.#options.onUnhandled?.({ action: String(request.action), code: 'internal', message });
    return { status: 'error', body: { errors: [message], code: 'internal' } };
  }

  #withdraw(job: Job): boolean {
    this.#waiting.delete(job);
    return this.#queue.withdraw(job.lane, job);
  }

  #release(job: Job): void {
    if (!this.#withdraw(job)) return;
    job.cancelDeadline();
    job.done({ kind: 'not-begun' });
  }

  #end(job: Job, found: Answer): void {
    job.cancelDeadline();
    const answer = job.request.finish(found);
    const now = this.#options.clock.now();
    const begunAt = job.begunAt ?? now;
    logEnd(job.log, { answer, took: now - begunAt, waited: begunAt - job.arrivedAt });
    job.done({ kind: 'answered', answer });
  }
}

function logEnd(
  log: Logger,
  { answer, took, waited = 0 }: { answer: Answer; took: number; waited?: number },
): void {
  const fields = { took_ms: Math.round(took), waited_ms: Math.round(waited) };
  if (answer.status === 'completed') log.info('request completed', fields);
  else
    log.info('request failed', {
      ...fields,
      code: answer.body.code,
      reason: answer.body.errors[0]?.slice(0, 300),
    });
}

function named(action: unknown): { action?: string } {
  return typeof action === 'string' ? { action: action.slice(0, 64) } : {};
}

function invalid(field: string, message: string): ActionError {
  const fields: FieldProblem[] = [{ field, message }];
  return new ActionError('invalid_request', message, { details: { fields } });
}

function clusterOf(request: Request, action: ServedAction): Cluster | undefined {
  const { target, name } = action.description;
  const token = request.etcdToken ?? undefined;
  const field = 'request_body.etcd_token';
  if (token === undefined) {
    if (target === 'cluster') throw invalid(field, `${field} is missing: ${name} runs against a cluster`);
    return undefined;
  }
  if (target === 'none') throw invalid(field, `${field} must be left out: ${name} takes no cluster`);
  if (typeof token !== 'string' || !CLUSTER_TOKEN.test(token)) {
    throw invalid(field, `${field} must be 1 to 128 of the characters A-Z a-z 0-9 _ -`);
  }
  return new Cluster(token);
}

function checkedTimeout(sent: unknown): number | undefined {
  if (sent === undefined || sent === null) return undefined;
  const value = typeof sent === 'string' && /^\d{1,15}$/.test(sent) ? Number(sent) : sent;
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 1) {
    throw invalid('timeout-ms', 'the header timeout-ms must be a number of milliseconds, at least 1');
  }
  return value;
}
