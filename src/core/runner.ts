import type { Action } from '../api/action.js';
import { ActionError } from '../api/action-error.js';
import type { Cluster } from '../api/cluster.js';
import { AbortWatch } from '../lib/abort-watch.js';
import { LinkedList, type Place } from '../lib/linked-list.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import {
  type Admitted,
  Admission,
  busy,
  type CheckedParameters,
  timedOut,
  unreachable,
} from './admission.js';
import { OUTCOME_GRACE_MS } from './caller-timeout.js';
import {
  type Call,
  type Failed,
  type FieldNames,
  RELEASED,
  RELEASED_ALONE,
  releases,
  type Settled,
  Shutdown,
} from './call.js';
import type { AccessPolicy } from './access-policy.js';
import type { BeforeChange, BeforeNestedChange } from './before-change.js';
import type { CallEventBus } from './call-events.js';
import type { ChangeClaims } from './change-claims.js';
import { ChangeGate, type Performance } from './change-gate.js';
import type { Catalogue } from './catalogue.js';
import { CircuitBreaker } from './circuit-breaker.js';
import { settledWith } from './call-errors.js';
import { Coalescing, mayShare, type RunningShare } from './coalescing.js';
import { Execution, type ExecutionEvents, type ExecutionOptions } from './execution.js';
import { FairQueue } from './fair-queue.js';
import { type Isolation, MustRunAlone } from './isolation.js';
import { compose, type Middleware } from './middleware.js';
import { ofRepeatedChange } from './repeated-change.js';
import { ServiceDrain } from './service-drain.js';
import { traceIdOf } from './trace-id.js';

/** A call whose action runs. */
export interface RunningCall {
  id: string;
  action: string;
  cluster: Cluster | undefined;
  runningMs: number;
}

export interface RunnerOptions {
  catalogue: Catalogue;
  events: CallEventBus;
  /** Wraps every run; the first is the outermost. */
  middlewares?: readonly Middleware[];
  names: FieldNames;
  clock: Clock;
  /** Gives a log that adds these fields to every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
  /** How many calls can be held at once; those of one cluster, or without one, may fill three quarters of it. */
  maxCalls: number;
  /** How many run at once in all, and against one cluster. */
  concurrency: number;
  clusterConcurrency: number;
  /** Where the handlers of repeated calls run; in this process by default. */
  isolation?: Omit<Isolation, 'close'>;
  /** Where the workers agree on changes; undefined: nowhere. */
  claims?: ChangeClaims | undefined;
  /** Which callers may do what; undefined: all may do everything. */
  policy?: AccessPolicy | undefined;
  /** The name that the operator has given the cluster of a token; by default none has one. */
  clusterName?: ((token: string) => string | undefined) | undefined;
  /** The etcd token of the cluster that has this name, which callers may use in its place; by default no name has one. */
  clusterToken?: ((name: string) => string | undefined) | undefined;
  /** Called before each change; undefined: nothing is. */
  beforeChange?: BeforeChange | undefined;
  /** Called before each change within another one; undefined: nothing is. */
  beforeNested?: BeforeNestedChange | undefined;
  /** Runs a handler in the context of its call, such as a trace; undefined: there is none. */
  inContextOf?: ExecutionOptions['inContextOf'];
}

/** What a job tells the runner. */
interface JobHost {
  takeTurn: (job: Job) => void;
  begin: (job: Job, work: Performance['work']) => void;
  known: (call: Call) => void;
}

/** An admitted call until it settles. */
class Job implements ExecutionEvents {
  readonly #host: JobHost;
  readonly call: Call;
  readonly admitted: Admitted;
  /** Whether it tries a cluster that could not be reached. */
  readonly isProbe: boolean;
  readonly settle: (settled: Settled | Promise<Settled>) => void;
  /** In the clock's milliseconds. */
  readonly admittedAt: number;
  /** When it is stopped, in the clock's milliseconds, once it does more than to find out what another worker has done. */
  readonly deadline: number;
  /** When it is stopped before that. */
  readonly inquiryEnd: number;
  cancelDeadline = NOTHING;
  beganAt = 0;
  /** It has its turn, and waits for something else: its units, or the store. */
  waitsOn = false;
  /** It has left its place to others, as it waits for another worker, which may take long. */
  isAside = false;
  /** Among those that wait, or those that run. */
  place: Place | undefined;
  /** Undefined while it waits. */
  execution: Execution | RunningShare | undefined;

  constructor(
    host: JobHost,
    { call, admitted, isProbe, now }: { call: Call; admitted: Admitted; isProbe: boolean; now: number },
    settle: (settled: Settled | Promise<Settled>) => void,
  ) {
    const { leftMs, inquiryMs } = admitted;
    this.#host = host;
    this.call = call;
    this.admitted = admitted;
    this.isProbe = isProbe;
    this.settle = settle;
    this.admittedAt = now;
    this.deadline = now + leftMs;
    this.inquiryEnd = now + (inquiryMs ?? leftMs);
  }

  start(): void {
    this.#host.takeTurn(this);
  }

  onBegin(work: Performance['work']): void {
    this.#host.begin(this, work);
  }

  onKnown(): void {
    this.#host.known(this.call);
  }
}

const NOTHING = () => {};
/** A call that got no response from its cluster for this long shows that the cluster cannot be reached. */
const HUNG_MS = 3_000;
/** A change that is stopped by a shutdown gets at least this long to reach a state that it can report, also after the grace time. */
const MIN_OUTCOME_MS = 1_500;
/** How long a caller waits until it is noted for other workers that its change was refused, in milliseconds. */
const NOTE_MS = 15_000;
/** How long the check of parameters in isolation may take, in milliseconds: a watchdog ends one that loops, twice. */
const CHECK_MS = 150_000;

/**
 * Runs calls: checks each call, lets it wait for its turn, and runs its action under its deadline. Does not know where a
 * call comes from or where its reply goes.
 */
export class Runner {
  readonly #options: RunnerOptions;
  readonly #admission: Admission;
  readonly #queue: FairQueue;
  readonly #breaker: CircuitBreaker;
  readonly #gate: ChangeGate;
  readonly #coalescing: Coalescing<Job>;
  readonly #execution: ExecutionOptions;
  readonly #host: JobHost = {
    takeTurn: (job) => this.#takeTurn(job),
    begin: (job, work) => this.#begin(job, work),
    known: (call) => this.#known.add(call),
  };
  readonly #chain: (call: Call) => Promise<Settled>;
  readonly #waiting = new LinkedList<Job>();
  readonly #running = new LinkedList<Job>();
  readonly #signals = new AbortWatch((signal) => {
    for (const jobs of [this.#waiting, this.#running])
      for (const job of jobs) if (job.call.signal === signal) this.#interrupt(job, signal.reason);
  });
  /** Repeated changes of which it is known what earlier deliveries have done. */
  readonly #known = new WeakSet<Call>();
  /** The number of calls for clusters without a response, as it was last told. */
  #withoutResponse = 0;
  readonly #drain = new ServiceDrain();
  #idle: (() => void) | undefined;

  constructor(options: RunnerOptions) {
    const { catalogue, names, maxCalls, concurrency, clusterConcurrency, clock, logFor, claims } = options;
    this.#options = options;
    this.#queue = new FairQueue({
      total: concurrency,
      perLane: clusterConcurrency,
      clock,
      onUnresponsive: (lane) => {
        this.#refuseWaiting(lane, busy(lane), this.#admission.roomOf(lane));
        this.#tellWithoutResponse();
      },
    });
    this.#breaker = new CircuitBreaker(clock);
    this.#admission = new Admission({
      catalogue,
      names,
      maxCalls,
      lanes: this.#queue,
      breaker: this.#breaker,
      hasClaims: claims !== undefined,
      policy: options.policy,
      clusterName: options.clusterName,
      clusterToken: options.clusterToken,
      onDenied: (denied) => options.events.emit('denied', { ...denied, at: clock.now() }),
      onResponse: ({ key }) => this.#queue.responded(key),
    });
    this.#gate = new ChangeGate(claims, options.beforeChange, options.clusterToken);
    this.#execution = {
      clock,
      logFor,
      gate: this.#gate,
      onReached: ({ key }) => this.#reached(key),
      onUnreachable: ({ key }) => this.#unreachable(key),
      isolation: options.isolation,
      drain: this.#drain,
      nested: {
        catalogue,
        admission: this.#admission,
        beforeNested: options.beforeNested,
        events: options.events,
      },
      inContextOf: options.inContextOf,
    };
    this.#coalescing = new Coalescing<Job>({
      queue: this.#queue,
      clock,
      executionOf: ({ call, admitted, admittedAt }, deadline, onBegin) => {
        const shared = {
          call,
          admitted,
          admittedAt,
          deadline,
          inquiryEnd: deadline,
          onBegin,
          onKnown: NOTHING,
        };
        return new Execution(shared, this.#execution);
      },
      onLate: (job) => this.#timeOut(job),
      onBegin: (job, share, sharedRun) => this.#beginShare(job, share, sharedRun),
      onEnd: (job, settled) => {
        job.place?.leave();
        this.#end(job, settled);
        this.#left();
      },
      onLeft: () => this.#left(),
    });
    this.#chain = compose(options.middlewares ?? [], (call) => this.#dispatch(call));
  }

  /** Never rejects: every failure becomes an error with which the call settles. */
  run(call: Call): Promise<Settled> {
    const { events, clock } = this.#options;
    events.emit('received', { call, at: clock.now() });
    return this.#chain(call).then((ended) => {
      const settled = this.#isUnknownChange(call) ? ofRepeatedChange(ended) : ended;
      if (settled.status === 'released') events.emit('released', { call, at: clock.now() });
      else events.emit('settled', { call, settled, at: clock.now() });
      return settled;
    });
  }

  /** The calls that run right now. */
  running(): RunningCall[] {
    const now = this.#options.clock.now();
    return [...this.#running].map(({ call, admitted, beganAt }) => ({
      id: call.id,
      action: admitted.action.description.name,
      cluster: admitted.cluster,
      runningMs: now - beganAt,
    }));
  }

  /** Lets calls wait, within their deadlines, until `resume`; those that run are not affected. */
  pause(): void {
    this.#queue.pause();
    this.#coalescing.pause();
  }

  resume(): void {
    this.#queue.resume();
    this.#coalescing.resume();
  }

  /**
   * Starts nothing more, releases what waits, gives running calls this many milliseconds to end, then ends them. Changes are
   * stopped earlier, so that they can still reach a state that they can report: for the last 30 s, at most half of the time.
   * Resolves when nothing runs any more.
   */
  async drain(graceMs: number): Promise<void> {
    const shutdown = new Shutdown();
    const { clock } = this.#options;
    const changesStopMs = graceMs - Math.min(OUTCOME_GRACE_MS, graceMs / 2);
    const changesEndMs = Math.max(graceMs, changesStopMs + MIN_OUTCOME_MS);
    this.#drain.begin(shutdown, clock.now() + changesEndMs);
    for (const job of this.#waiting) this.#interrupt(job, shutdown);
    for (const { execution } of this.#running) execution?.release(shutdown);
    if (this.#running.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    const reason = shuttingDown();
    const forEach = (effect: Action['effect'], work: (execution: Execution | RunningShare) => void) => {
      for (const { admitted, execution } of this.#running)
        if (execution !== undefined && admitted.action.description.effect === effect) work(execution);
    };
    const cancels = [
      clock.after(changesStopMs, () => forEach('change', (execution) => execution.stop(reason))),
      clock.after(graceMs, () => forEach('read', (execution) => execution.stop(reason))),
      clock.after(changesEndMs, () => forEach('change', (execution) => execution.end(reason))),
    ];
    await idle.finally(() => cancels.forEach((cancel) => cancel()));
  }

  /** Never rejects. Not an async function: nearly all calls have nothing to wait for before they get their place in the queue. */
  #dispatch(call: Call): Promise<Settled> {
    const { signal, delivery } = call;
    const begin = this.#options.clock.now();
    if (this.#drain.signal.aborted || (signal.aborted && releases(signal.reason)))
      return Promise.resolve(RELEASED);
    if (signal.aborted) return this.#notAdmitted(call, cancelled(), { since: begin, isAllowed: false });
    // What ended a worker before may be the check of its parameters.
    const { isolation } = this.#options;
    if (isolation !== undefined && delivery === 'repeated')
      return this.#dispatchApart(call, isolation, begin);
    try {
      return this.#enqueue(call, this.#admission.admit(call));
    } catch (error) {
      // What may not hold for another worker is checked after the policy.
      return this.#notAdmitted(call, error, { since: begin, isAllowed: true });
    }
  }

  /** Dispatches a call whose parameters are checked in isolation. */
  async #dispatchApart(call: Call, isolation: Pick<Isolation, 'run'>, begin: number): Promise<Settled> {
    try {
      const checked = await this.#checkedApart(call, isolation);
      return await this.#enqueue(call, this.#admission.admit(call, checked));
    } catch (error) {
      return this.#notAdmitted(call, error, { since: begin, isAllowed: false });
    }
  }

  async #notAdmitted(
    call: Call,
    error: unknown,
    known: { since: number; isAllowed: boolean },
  ): Promise<Settled> {
    if (error instanceof MustRunAlone) return RELEASED_ALONE;
    return releases(error) ? RELEASED : this.#refused(call, settledWith(error, call.id), known);
  }

  /**
   * Refuses a call that has not had its turn.
   * @param known since when the service has had it, and whether the policy allows it
   * @returns what its caller is told
   */
  #refused(
    call: Call,
    refusal: Failed,
    { since, isAllowed }: { since: number; isAllowed: boolean },
  ): Failed | Promise<Settled> {
    const { catalogue, clock, claims } = this.#options;
    const action = typeof call.action === 'string' ? catalogue.find(call.action)?.description : undefined;
    if (claims === undefined || action?.effect !== 'change') return refusal;
    const limit = { ms: NOTE_MS, clock, reason: () => timedOut(NOTE_MS), signal: this.#drain.signal };
    return runWithin(limit, async (signal) =>
      this.#gate.refuse({
        call,
        action: action.name,
        refusal,
        isAllowed,
        heldMs: call.waitedMs + clock.now() - since,
        signal,
        onKnown: () => this.#known.add(call),
      }),
    );
  }

  /**
   * Checks the parameters of a call in isolation.
   * @returns undefined when there is no such action
   * @throws ActionError with the reason why the call is refused, or why it is released
   */
  async #checkedApart(call: Call, isolation: Pick<Isolation, 'run'>): Promise<CheckedParameters | undefined> {
    const { id, action, parameters, caller, signal, mustRunAlone } = call;
    const { catalogue, clock } = this.#options;
    const effect = typeof action === 'string' ? catalogue.find(action)?.description.effect : undefined;
    if (typeof action !== 'string' || effect === undefined) return undefined;
    const begin = clock.now();
    const { callerMs, leftMs } = this.#admission.timeOf(call);
    // Whoever may publish can make each of many requests need a process of its own: not those who may not ask at all.
    this.#admission.requireRule(call);
    // What an earlier delivery of a change has done is found out also when its caller waits no longer.
    const isCallers = effect === 'read' && leftMs < CHECK_MS;
    if (isCallers && leftMs <= 0) throw timedOut(callerMs);
    const ms = isCallers ? leftMs : CHECK_MS;
    const reason = () => timedOut(isCallers ? callerMs : CHECK_MS);
    const limit = { ms, clock, reason, signal: [signal, this.#drain.signal] };
    try {
      const checked = await runWithin(limit, async (limited) => {
        const check = isolation.run({
          id,
          key: undefined,
          action,
          work: 'check',
          repeated: true,
          parameters,
          token: undefined,
          caller,
          traceId: traceIdOf(call),
          unitNames: [],
          units: undefined,
          deadline: begin + ms,
          onProcessEnd: 'give-back',
          isAlone: mustRunAlone === true,
          signal: limited,
          drain: this.#drain,
          nested: undefined,
          onWarning: () => {},
          onResponse: () => {},
        });
        return untilAborted(check, limited);
      });
      return { parameters: checked, tookMs: clock.now() - begin };
    } catch (error) {
      throw error === signal.reason && !releases(error) ? cancelled() : error;
    }
  }

  /** Whether it is a change that another worker may have begun, as far as is known. */
  #isUnknownChange(call: Call): boolean {
    const { delivery, action } = call;
    if (delivery !== 'repeated' || typeof action !== 'string' || this.#known.has(call)) return false;
    return this.#options.catalogue.find(action)?.description.effect === 'change';
  }

  #enqueue(call: Call, admitted: Admitted): Promise<Settled> {
    const { clock, events } = this.#options;
    const { action, cluster, lane, unitNames: units, rule, leftMs, inquiryMs } = admitted;
    const now = clock.now();
    events.emit('admitted', { call, action: action.description, cluster, units, rule, at: now });
    const isProbe = inquiryMs === undefined && cluster !== undefined && this.#breaker.admitted(cluster.key);
    return new Promise((settle) => {
      const job = new Job(this.#host, { call, admitted, isProbe, now }, settle);
      job.cancelDeadline = clock.after(inquiryMs ?? leftMs, () => this.#timeOut(job));
      job.place = this.#waiting.add(job);
      this.#signals.add(call.signal);
      if (mayShare(call, admitted)) this.#coalescing.add(job);
      else this.#queue.enter(lane, job, call.priority);
      if (!this.#queue.hasResponded(lane)) this.#tellWithoutResponse();
    });
  }

  /** The turn of a job, until its place in the queue is free again. */
  #takeTurn(job: Job): void {
    const now = this.#options.clock.now();
    // The timer of its deadline is late when the process was stopped, or busy, for a while. Not at once, as the queue counts its place only then.
    if (now >= job.inquiryEnd) {
      this.#timeOut(job);
      return void Promise.resolve().then(() => this.#leave(job));
    }
    const execution = new Execution(job, this.#execution);
    job.execution = execution;
    job.beganAt = now;
    job.place?.leave();
    job.place = this.#running.add(job);
    const running = execution.run();
    if (!execution.hasBegun) this.#wait(job);
    void running.then((settled) => {
      this.#goOn(job);
      job.place?.leave();
      this.#end(job, settled);
      return this.#leave(job);
    });
  }

  #leave(job: Job): void {
    this.#queue.leave(job.admitted.lane);
    this.#left();
  }

  /** A job, or a run that several share, has left its lane. */
  #left(): void {
    if (this.#withoutResponse > 0) this.#tellWithoutResponse();
    if (this.#running.size === 0) this.#idle?.();
  }

  #wait(job: Job): void {
    const { lane, inquiryMs } = job.admitted;
    job.isAside = inquiryMs !== undefined;
    job.waitsOn = !job.isAside;
    if (job.isAside) this.#queue.leave(lane);
    else this.#queue.waits(lane);
  }

  #goOn(job: Job): void {
    const { lane } = job.admitted;
    if (job.isAside) this.#queue.rejoin(lane);
    if (job.waitsOn) this.#queue.works(lane);
    job.isAside = false;
    job.waitsOn = false;
  }

  /** The handler of a job begins; a change may have waited after its turn. */
  #begin(job: Job, work: Performance['work']): void {
    const { clock, events } = this.#options;
    this.#goOn(job);
    job.beganAt = clock.now();
    if (work === 'run' && job.deadline !== job.inquiryEnd) {
      job.cancelDeadline();
      job.cancelDeadline = clock.after(job.deadline - job.beganAt, () => this.#timeOut(job));
    }
    events.emit('began', { call: job.call, at: job.beganAt });
  }

  /** The run that a job shares begins. */
  #beginShare(job: Job, share: RunningShare, sharedRun: string | undefined): void {
    const { clock, events } = this.#options;
    job.execution = share;
    job.beganAt = clock.now();
    job.place?.leave();
    job.place = this.#running.add(job);
    events.emit('began', { call: job.call, at: job.beganAt, sharedRun });
  }

  #reached(lane: string): void {
    this.#breaker.reached(lane);
    this.#queue.responded(lane);
  }

  #unreachable(lane: string): void {
    if (this.#breaker.unreachable(lane))
      this.#refuseWaiting(lane, unreachable(this.#breaker.pauseLeft(lane)), 0);
  }

  /** Refuses the latest of the waiting calls of a lane, until it has no more calls than this. */
  #refuseWaiting(lane: string, error: ActionError, most: number): void {
    const waiting = [...this.#waiting].filter(
      ({ admitted }) => admitted.lane === lane && admitted.inquiryMs === undefined,
    );
    const excess = Math.min(waiting.length, this.#queue.count(lane) - most);
    for (const job of waiting.slice(waiting.length - excess)) this.#refuse(job, error);
  }

  /** Tells the transport, which then lets more calls in: those for such clusters keep none of others out. */
  #tellWithoutResponse(): void {
    const { items } = this.#queue.withoutResponse;
    if (items === this.#withoutResponse) return;
    this.#withoutResponse = items;
    this.#options.events.emit('withoutResponse', { calls: items, at: this.#options.clock.now() });
  }

  #timeOut(job: Job): void {
    if (this.#isHung(job)) this.#unreachable(job.admitted.lane);
    this.#stop(job, timedOut(job.admitted.timeoutMs));
  }

  /** Whether the call has a cluster that has not responded since the call began, a while ago. */
  #isHung({ admitted: { cluster, lane }, execution, beganAt }: Job): boolean {
    if (cluster === undefined || execution === undefined) return false;
    // A run counts once, with the last call that waits for it.
    if ('hasOthers' in execution && execution.hasOthers) return false;
    const ranMs = this.#options.clock.now() - beganAt;
    return ranMs >= HUNG_MS && this.#queue.noResponseMs(lane) >= ranMs;
  }

  /** @param reason of the aborted signal of the call, or a shutdown */
  #interrupt(job: Job, reason: unknown): void {
    if (!releases(reason)) return this.#stop(job, cancelled());
    if (job.execution === undefined) return this.#withdraw(job, RELEASED);
    // A change may still wait after its turn. After a lost connection one that has begun continues.
    job.execution.release(reason);
    if (reason instanceof Shutdown) job.execution.stop(shuttingDown());
  }

  #stop(job: Job, reason: ActionError): void {
    if (job.execution === undefined) return this.#refuse(job, reason);
    job.execution.stop(reason);
  }

  #refuse(job: Job, reason: ActionError): void {
    const { call, admittedAt } = job;
    const known = { since: admittedAt, isAllowed: true };
    this.#withdraw(job, this.#refused(call, settledWith(reason, call.id), known));
  }

  /** Ends a waiting job. */
  #withdraw(job: Job, settled: Settled | Promise<Settled>): void {
    job.place?.leave();
    this.#coalescing.leave(job);
    this.#queue.withdraw(job.admitted.lane, job);
    if (this.#withoutResponse > 0) this.#tellWithoutResponse();
    this.#end(job, settled);
  }

  #end(job: Job, settled: Settled | Promise<Settled>): void {
    job.cancelDeadline();
    if (job.isProbe) this.#breaker.probed(job.admitted.lane);
    job.settle(settled);
  }
}

function shuttingDown(): ActionError {
  return new ActionError('cancelled', 'The service is shutting down and had to stop this request');
}

function cancelled(): ActionError {
  return new ActionError('cancelled', 'The caller no longer waits for this request');
}
