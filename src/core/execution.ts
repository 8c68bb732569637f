import type { Drain } from '../api/action.js';
import { ActionError } from '../api/action-error.js';
import { errorCodeInfo } from '../api/error-codes.js';
import { ANONYMOUS } from '../api/caller.js';
import { type Cluster, noteResponse, tokenOf } from '../api/cluster.js';
import type { Warn } from '../api/warn.js';
import type { Clock } from '../lib/clock.js';
import { fieldsOf } from '../lib/fields-of.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';
import { runWithin } from '../lib/time-limit.js';
import { actionRequest } from './action-request.js';
import { type Admitted, timedOut } from './admission.js';
import { OUTCOME_GRACE_MS } from './caller-timeout.js';
import {
  type Call,
  ConnectionLost,
  type Ended,
  type ErrorBody,
  type Failed,
  RELEASED,
  RELEASED_ALONE,
  releases,
  type Settled,
  type Shutdown,
} from './call.js';
import { bodyOf, settledWith, withSendableDetails } from './call-errors.js';
import { BoundActions, type BoundActionsOptions } from './bound-actions.js';
import { type ChangeGate, outcomeNotReported, type Performance, type TakeUnit } from './change-gate.js';
import {
  type IsolatedPlace,
  type Isolation,
  MustRunAlone,
  NeverBegan,
  type OnProcessEnd,
  type PlaceNeeds,
} from './isolation.js';
import { NestedCalls, type NestedCallsOptions } from './nested-calls.js';
import { traceIdOf } from './trace-id.js';
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
  isolation: Omit<Isolation, 'close'> | undefined;
  /** Where changes wait until they may begin. */
  gate: ChangeGate;
  /** The stop of the service. */
  drain: Drain;
  /** For actions that call others. */
  nested: NestedCallsOptions & Pick<BoundActionsOptions, 'catalogue'>;
  /** Runs a handler in the context of its call; undefined: there is none. */
  inContextOf?: (<T>(call: Call, run: () => T) => T) | undefined;
}

/** What happens to one run, besides its end. */
export interface ExecutionEvents {
  /** The handler, or the probe, begins. */
  onBegin: (work: Performance['work']) => void;
  /** It is known what earlier deliveries of a change have done. */
  onKnown: () => void;
}

/** An admitted call, and who is told what happens to its run. */
export interface ExecutedCall extends ExecutionEvents {
  readonly call: Call;
  readonly admitted: Admitted;
  /** When it was admitted, and when it is stopped, in the clock's milliseconds. */
  readonly admittedAt: number;
  /** Its handler. */
  readonly deadline: number;
  /** Its probe, and before it has begun. */
  readonly inquiryEnd: number;
}

const NOTHING = () => {};
const FIRST_RUN: Performance = { work: 'run', repeated: false };
const REPEATED_RUN: Performance = { work: 'run', repeated: true };

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

/** One run of an action's handler, from the wait of a change until it may begin. */
export class Execution {
  readonly #call: Call;
  readonly #admitted: Admitted;
  readonly #job: ExecutedCall;
  readonly #options: ExecutionOptions;
  readonly #abort = new LazyAbort();
  readonly #ending = new LazyAbort();
  readonly #warnings = new Warnings();
  #state: 'waiting' | 'running' | 'ended' = 'waiting';
  /** Whether it is a read, and the process that it shared in isolation has ended. */
  #mustRunAlone = false;
  /** Where a change will run in isolation. */
  #place: IsolatedPlace | undefined;
  /** What the action calls; undefined: it calls nothing. */
  #nested: NestedCalls | undefined;
  /** For the changes within a change. */
  #takeUnit: TakeUnit | undefined;
  #cancelSettling = NOTHING;
  /** What the handler has thrown while what it has called and not waited for runs on. */
  #thrown: unknown;
  #giveUp: (error: unknown) => void = NOTHING;

  constructor(job: ExecutedCall, options: ExecutionOptions) {
    this.#job = job;
    this.#call = job.call;
    this.#admitted = job.admitted;
    this.#options = options;
  }

  get #isRead(): boolean {
    return this.#admitted.action.description.effect === 'read';
  }

  /** Whether the handler has begun. */
  get hasBegun(): boolean {
    return this.#state !== 'waiting';
  }

  /** Runs the handler; a change first waits until it may. Never rejects. */
  run(): Promise<Settled> {
    if (this.#isRead) return this.#runRead();
    const { inContextOf } = this.#options;
    // What it does at the claim store belongs to its call too.
    return inContextOf === undefined ? this.#runChange() : inContextOf(this.#call, () => this.#runChange());
  }

  #runRead(): Promise<Settled> {
    const repeated = this.#call.delivery === 'repeated';
    return this.#perform(repeated ? REPEATED_RUN : FIRST_RUN).then((ended) => {
      if (releases(this.#abort.reason)) return RELEASED;
      return this.#mustRunAlone ? RELEASED_ALONE : ended;
    });
  }

  async #runChange(): Promise<Settled> {
    const [abort, ending] = [this.#abort, this.#ending];
    const settled = await this.#options.gate.run({
      call: this.#call,
      admitted: this.#admitted,
      get signal() {
        return abort.signal;
      },
      get ending() {
        return ending.signal;
      },
      heldMs: () => this.#call.waitedMs + this.#options.clock.now() - this.#job.admittedAt,
      requireTime: () => this.#requireTime(),
      prepare: async (performance) => this.#prepare(performance),
      perform: async (performance, takeUnit) => {
        this.#takeUnit = takeUnit;
        return this.#perform(performance);
      },
      stop: (reason) => this.stop(reason),
      onKnown: () => this.#job.onKnown(),
    });
    // It may not have begun.
    this.#place?.leave();
    return settled;
  }

  /** @throws ActionError when the handler must not begin any more */
  #requireTime(): void {
    if (this.#options.clock.now() >= this.#job.deadline) throw timedOut(this.#admitted.timeoutMs);
  }

  /** Waits for what the performance needs besides its turn. @throws ActionError, or the signal's reason */
  async #prepare({ work, repeated }: Performance): Promise<void> {
    const isolation = this.#isolationOf(repeated);
    if (isolation === undefined) return;
    const { clock } = this.#options;
    const needs = this.#needsOf(work);
    // Until it begins it is stopped only when there is no time for a probe either.
    const limit = {
      ms: needs.deadline - clock.now(),
      clock,
      reason: () => timedOut(this.#admitted.timeoutMs),
      signal: this.#abort.signal,
    };
    this.#place = await runWithin(limit, async (signal) => isolation.enter({ ...needs, signal }));
  }

  /** What an earlier delivery began may be what ended its worker, also when the broker calls this delivery the first. */
  #isolationOf(repeated: boolean): ExecutionOptions['isolation'] {
    return repeated || this.#call.delivery === 'repeated' ? this.#options.isolation : undefined;
  }

  #deadlineOf(work: Performance['work']): number {
    return work === 'probe' ? this.#job.inquiryEnd : this.#job.deadline;
  }

  /** Never rejects. */
  #perform(performance: Performance): Promise<Ended> {
    return new Promise((resolve) => {
      const end = (ended: Ended) => {
        this.#state = 'ended';
        this.#cancelSettling();
        resolve(this.#withWarnings(ended));
      };
      const fail = (error: unknown) => {
        if (this.#state !== 'ended') end(this.#failure(error));
      };
      this.#giveUp = fail;
      let result: Promise<unknown> | undefined;
      try {
        this.#state = 'running';
        this.#job.onBegin(performance.work);
        const { inContextOf } = this.#options;
        // The queue may have begun it in the context of another call.
        result =
          inContextOf === undefined
            ? this.#result(performance)
            : inContextOf(this.#call, () => this.#result(performance));
      } catch (error) {
        return fail(this.#reasonAfter(error));
      }
      Promise.resolve(result).then(
        (body) => (this.#state === 'ended' ? undefined : end(this.#completed(performance, body))),
        (error: unknown) => fail(this.#reasonAfter(error)),
      );
    });
  }

  #completed({ work }: Performance, body: unknown): Ended {
    const { action, cluster } = this.#admitted;
    if (work === 'probe' && body === undefined)
      return this.#failure(this.#reasonAfter(outcomeNotReported(action.description.name)));
    if (cluster !== undefined) this.#options.onReached(cluster);
    try {
      const problem = unsendableIn(body, 'result');
      return problem === undefined ? { status: 'completed', body } : this.#failure(new TypeError(problem));
    } catch (error) {
      // A property of the result throws when it is read.
      return this.#failure(error);
    }
  }

  #withWarnings(ended: Ended): Ended {
    try {
      return this.#warnings.addedTo(ended);
    } catch (error) {
      // A property of the details throws, which it did not when they were checked.
      return settledWith(error, this.#call.id);
    }
  }

  #failure(error: unknown): Failed {
    const settled = settledWith(error, this.#call.id);
    const log = this.#options.logFor({ request: this.#call.id });
    return { ...settled, body: withSendableDetails(settled.body, log) };
  }

  /**
   * Gives up a change that waits, so that any worker can take it; one that has begun goes on. A read in isolation is given up too when
   * its connection is lost: it may be what ended a worker, and would end processes here beside those of the worker that gets
   * it now.
   */
  release(reason: ConnectionLost | Shutdown): void {
    const isSuspect = this.#isRead && this.#isolationOf(false) !== undefined;
    if (this.hasBegun && !(isSuspect && reason instanceof ConnectionLost)) return;
    if (this.#abort.aborted || this.#state === 'ended') return;
    this.#abort.abort(reason);
    if (this.hasBegun) this.#giveUp(reason);
  }

  /**
   * Aborts the handler's signal; only the first reason counts. A read, and a change that waits, end immediately with that
   * reason. A change that has begun gets time to report its outcome; after that its outcome is unknown.
   */
  stop(reason: ActionError): void {
    if (this.#abort.aborted || this.#state === 'ended') return;
    this.#abort.abort(reason);
    if (this.#isRead) return this.#giveUp(reason);
    if (this.#state === 'waiting') return;
    const unknown = () => this.#giveUp(this.#lastWord(reason));
    this.#cancelSettling = this.#options.clock.after(OUTCOME_GRACE_MS, unknown);
  }

  /** How a call ends that leaves the run for this reason, while others wait for its result. */
  leftWith(reason: ActionError): Failed {
    return this.#warnings.addedTo(settledWith(reason, this.#call.id));
  }

  /** Stops it and does not wait: a change that has not reported its outcome by now has an unknown one. */
  end(reason: ActionError): void {
    this.stop(reason);
    this.#ending.abort(reason);
    this.#giveUp(this.#lastWord(this.#abort.reason));
  }

  /** Of a change that is not waited for any more: what its handler has reported, or that nothing is known. */
  #lastWord(reason: unknown): unknown {
    const hasReported = bodyOf(this.#thrown) !== undefined && this.#thrown !== reason;
    return hasReported ? this.#reasonAfter(this.#thrown) : outcomeUnknown(reason);
  }

  /** Notes what an error of the handler shows of its cluster. @returns the reason why the run failed */
  #reasonAfter(error: unknown): unknown {
    try {
      return this.#reasonAsThrown(error);
    } catch (problem) {
      // A handler may throw what throws again when anything of it is read.
      return problem;
    }
  }

  #reasonAsThrown(error: unknown): unknown {
    if (error instanceof NeverBegan) return error.cause;
    const { cluster } = this.#admitted;
    const { onReached, onUnreachable } = this.#options;
    const abort = this.#abort;
    const known = bodyOf(error);
    if (cluster !== undefined && known !== undefined) {
      if (known.code === 'cluster_unreachable') onUnreachable(cluster);
      else if (!NOT_ABOUT_REACHABILITY.has(known.code)) onReached(cluster);
    }
    // A handler may throw any error when its signal is aborted. Only an error that it made itself reports an outcome.
    const isReport = known !== undefined && error !== abort.reason;
    if (!abort.aborted || isReport) return partlyDone(error, known, this.#nested?.changed ?? []) ?? error;
    return this.#isRead ? abort.reason : outcomeUnknown(abort.reason, error);
  }

  #needsOf(work: Performance['work']): Omit<PlaceNeeds, 'signal'> {
    return {
      deadline: this.#deadlineOf(work),
      onProcessEnd: this.#onProcessEnd(work),
      isAlone: this.#call.mustRunAlone === true,
    };
  }

  #onProcessEnd(work: Performance['work']): OnProcessEnd {
    if (this.#isRead) return 'give-back';
    const mayRunAgain = work === 'probe' || this.#admitted.action.description.redelivery === 'run-again';
    return mayRunAgain ? 'run-alone' : 'unknown';
  }

  /** The result of the handler, from wherever it runs. */
  #result({ work, repeated, begunFor }: Performance): Promise<unknown> | undefined {
    const { action, parameters, cluster, unitNames, units } = this.#admitted;
    const id = begunFor ?? this.#call.id;
    const key = this.#call.idempotencyKey ?? this.#call.key;
    const traceId = traceIdOf(this.#call);
    const caller = action.coalesces === true ? ANONYMOUS : this.#call.caller;
    const { logFor, drain } = this.#options;
    const { name } = action.description;
    const abort = this.#abort;
    const deadline = this.#deadlineOf(work);
    const warn: Warn = (text, facts) => this.#warnings.add(text, facts);
    const isolation = this.#isolationOf(repeated);
    if (isolation === undefined) {
      const run = {
        id,
        key,
        action: name,
        parameters,
        cluster,
        settings: action.settings,
        caller,
        traceId,
        repeated,
        deadline,
        abort,
        drain,
        unitNames,
        units,
        warn,
        logFor,
      };
      if (!action.callsOthers) return action[work]?.(actionRequest(run));
      const { clock, nested } = this.#options;
      const authority = this.#nestedCalls();
      const actions = BoundActions.of({ catalogue: nested.catalogue, authority, clock }, run);
      return endedBy(Promise.resolve(action[work]?.(actionRequest(run), actions)), async (error) => {
        this.#thrown = error;
        await actions.end();
      });
    }
    const calls = action.callsOthers ? this.#nestedCalls() : undefined;
    const running = (this.#place ?? isolation).run({
      id,
      key,
      action: name,
      work,
      repeated,
      parameters,
      token: cluster && tokenOf(cluster),
      caller,
      traceId,
      unitNames,
      units,
      ...this.#needsOf(work),
      signal: abort.signal,
      drain,
      nested: calls,
      onWarning: warn,
      onResponse: () => cluster && noteResponse(cluster),
    });
    const settled = running.catch((error: unknown) => {
      this.#mustRunAlone = error instanceof MustRunAlone;
      throw error;
    });
    // Its process may have ended, and told nothing.
    return calls === undefined ? settled : endedBy(settled, async () => calls.close());
  }

  #nestedCalls(): NestedCalls {
    const [call, admitted, abort, takeUnit] = [this.#call, this.#admitted, this.#abort, this.#takeUnit];
    this.#nested = new NestedCalls(this.#options.nested, { call, admitted, abort, takeUnit });
    return this.#nested;
  }
}

/**
 * Ends what a handler has called and not waited for, before its own end counts.
 * @param end gets what the handler has thrown
 */
async function endedBy<T>(running: Promise<T>, end: (error?: unknown) => Promise<void>): Promise<T> {
  let result: T;
  try {
    result = await running;
  } catch (error) {
    await end(error);
    throw error;
  }
  await end();
  return result;
}

/**
 * What becomes of an error that says that nothing was changed, of an action that has called changes before: whoever sent the request
 * again would make these twice. Undefined: it may say so.
 */
function partlyDone(
  error: unknown,
  known: ErrorBody | undefined,
  changed: readonly string[],
): ActionError | undefined {
  if (known === undefined || changed.length === 0 || !errorCodeInfo(known.code).retryable) return undefined;
  return new ActionError(
    'outcome_unknown',
    `The action failed after it had called ${changed.join(', ')}, so a part of the change may be made: ${known.errors.join('; ')}`,
    { cause: error, details: { ...fieldsOf(known.details), stopped_by: known.code } },
  );
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
