import type { ActionError } from '../api/action-error.js';
import { canonicalText } from '../lib/canonical-text.js';
import type { Clock } from '../lib/clock.js';
import type { Admitted } from './admission.js';
import type { Call, Settled } from './call.js';
import { settledWith } from './call-errors.js';
import type { Execution } from './execution.js';
import type { FairQueue, Waiting } from './fair-queue.js';

/** An admitted call that may share a run. */
export interface Sharer {
  readonly call: Call;
  readonly admitted: Admitted;
  /** In the clock's milliseconds. */
  readonly deadline: number;
}

/** A sharer whose run has begun. */
export type RunningShare = Pick<Execution, 'release' | 'stop' | 'end'> & {
  /** Whether others wait for the same run. */
  readonly hasOthers: boolean;
};

export interface CoalescingOptions<S extends Sharer> {
  queue: Pick<FairQueue, 'enter' | 'withdraw' | 'leave' | 'share'>;
  clock: Clock;
  /** Makes the run of a call that several share, which goes on until this deadline. */
  executionOf: (sharer: S, deadline: number, onBegin: () => void) => Execution;
  /** Called instead of `onBegin` for a sharer whose time has passed; it then calls `leave`. */
  onLate: (sharer: S) => void;
  /** @param sharedRun the id of the run when there are several sharers */
  onBegin: (sharer: S, share: RunningShare, sharedRun: string | undefined) => void;
  onEnd: (sharer: S, settled: Settled) => void;
  /** Called when a run has left its lane. */
  onLeft: () => void;
}

/** A run of calls with equal parameters. Who comes before it begins shares it. */
interface Run<S> extends Waiting {
  readonly reads: EqualReads<S>;
  readonly sharers: Set<S>;
  /** Whether it has a place in the queue, waiting or running. */
  isQueued: boolean;
  /** How many of its sharers the queue counts besides it. */
  counted: number;
  cancelEntry: () => void;
}

/** The runs of one action on one cluster, with the same parameters. */
interface EqualReads<S> {
  readonly group: Group<S>;
  readonly parameters: unknown;
  /** Undefined as long as it was not needed, or when the parameters cannot be compared. */
  key: string | undefined;
  /** How many runs are in progress. */
  inProgress: number;
  /** The run that has not begun. */
  next: Run<S> | undefined;
}

/** The reads of one action on one cluster, for callers who may see the same units. */
interface Group<S> {
  readonly name: string;
  readonly lane: string;
  /** The only ones, as long as nothing was compared with them. */
  first: EqualReads<S> | undefined;
  readonly byKey: Map<string, EqualReads<S>>;
}

/** Parameters that are longer than this are not compared. */
const MAX_KEY_CHARACTERS = 4_096;
/** For how long a run waits for the one before it, in milliseconds: one that hangs must not keep all equal calls waiting. */
const MAX_WAIT_MS = 5_000;

/**
 * Whether a call may share runs. A repeated one may be what ended a worker: it runs for itself, in isolation.
 */
export function mayShare({ delivery, mustRunAlone, wantsParts }: Call, { action }: Admitted): boolean {
  return action.coalesces === true && delivery === 'first' && mustRunAlone !== true && !wantsParts;
}

/**
 * Lets equal calls share runs: a call that comes while an equal one runs waits for the next run, together with those that
 * come after it. So a run begins after all of its calls have come, and no result is older than its call. What needs a
 * place in the queue is the run: its calls need none, but are counted in their lane, since each is held.
 */
export class Coalescing<S extends Sharer> {
  readonly #options: CoalescingOptions<S>;
  readonly #groups = new Map<string, Group<S>>();
  /** The runs that have not begun, by those who wait for them. */
  readonly #waiting = new Map<S, Run<S>>();
  /** Resolved when results may be handed out again; undefined: they may be. */
  #pause: { ended: Promise<void>; end: () => void } | undefined;

  constructor(options: CoalescingOptions<S>) {
    this.#options = options;
  }

  /** Adds a call to the next run of its kind; the run begins when it has its turn. */
  add(sharer: S): void {
    const reads = this.#readsOf(sharer.admitted);
    const isNew = reads.next === undefined;
    const run = (reads.next ??= this.#runOf(reads));
    run.sharers.add(sharer);
    this.#waiting.set(sharer, run);
    if (!isNew) return this.#count(run);
    if (reads.inProgress === 0) return this.#enter(run);
    this.#count(run);
    run.cancelEntry = this.#options.clock.after(MAX_WAIT_MS, () => this.#enter(run));
  }

  /** Takes a call from the run that it waits for, if it waits for one. */
  leave(sharer: S): void {
    const run = this.#waiting.get(sharer);
    if (run === undefined) return;
    this.#waiting.delete(sharer);
    run.sharers.delete(sharer);
    const { reads } = run;
    if (run.sharers.size === 0 && reads.next === run) {
      run.cancelEntry();
      if (run.isQueued) this.#options.queue.withdraw(reads.group.lane, run);
      run.isQueued = false;
      reads.next = undefined;
      this.#tidy(reads);
    }
    this.#count(run);
  }

  /** Hands out no further results of shared runs until `resume`: each becomes a reply of its own. */
  pause(): void {
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#pause ??= { ended, end };
  }

  resume(): void {
    this.#pause?.end();
    this.#pause = undefined;
  }

  #readsOf({ action, lane, parameters, units }: Admitted): EqualReads<S> {
    // Who may see other units gets another result.
    const scope = units === undefined ? '' : ` ${units.join(' ')}`;
    const name = `${action.description.name} ${lane}${scope}`;
    const found = this.#groups.get(name);
    if (found === undefined) {
      const group: Group<S> = { name, lane, first: undefined, byKey: new Map() };
      this.#groups.set(name, group);
      group.first = newReads(group, parameters);
      return group.first;
    }
    compareFirst(found);
    const key = canonicalText(parameters, MAX_KEY_CHARACTERS);
    const known = key === undefined ? undefined : found.byKey.get(key);
    if (known !== undefined) return known;
    const reads = newReads(found, parameters, key);
    if (key !== undefined) found.byKey.set(key, reads);
    return reads;
  }

  #runOf(reads: EqualReads<S>): Run<S> {
    const run: Run<S> = {
      reads,
      sharers: new Set(),
      isQueued: false,
      counted: 0,
      cancelEntry: () => {},
      start: () => void this.#start(run),
    };
    return run;
  }

  #enter(run: Run<S>): void {
    run.cancelEntry();
    run.isQueued = true;
    this.#count(run);
    this.#options.queue.enter(run.reads.group.lane, run, priorityOf(run));
  }

  /** Tells the queue how many sharers it does not see. */
  #count(run: Run<S>): void {
    const counted = Math.max(0, run.sharers.size - (run.isQueued ? 1 : 0));
    if (counted === run.counted) return;
    this.#options.queue.share(run.reads.group.lane, counted - run.counted);
    run.counted = counted;
  }

  /** The turn of a run, until each sharer has its result. */
  async #start(run: Run<S>): Promise<void> {
    const { queue, onLeft } = this.#options;
    const { reads } = run;
    begun(reads);
    const settled = await this.#execute(run);
    const [first] = run.sharers;
    if (first !== undefined && settled !== undefined) this.#end(run, first, settled);
    run.isQueued = false;
    queue.leave(reads.group.lane);
    this.#count(run);
    reads.inProgress--;
    if (reads.next !== undefined && !reads.next.isQueued) this.#enter(reads.next);
    this.#tidy(reads);
    onLeft();
    if (settled !== undefined) await this.#handOut(run, settled);
  }

  /** @returns undefined when there is nobody to run for */
  async #execute(run: Run<S>): Promise<Settled | undefined> {
    const { clock, executionOf, onLate, onBegin } = this.#options;
    const now = clock.now();
    // Timers of deadlines are late when the process was stopped, or busy, for a while.
    for (const sharer of run.sharers) if (now >= sharer.deadline) onLate(sharer);
    const [first] = run.sharers;
    if (first === undefined) return undefined;
    const deadline = Math.max(...Array.from(run.sharers, (sharer) => sharer.deadline));
    const sharedRun = run.sharers.size > 1 ? first.call.id : undefined;
    const execution = executionOf(first, deadline, () => {
      for (const sharer of run.sharers) {
        this.#waiting.delete(sharer);
        onBegin(sharer, this.#shareOf(run, sharer, execution), sharedRun);
      }
    });
    return execution.run();
  }

  #shareOf(run: Run<S>, sharer: S, execution: Execution): RunningShare {
    const stop = (reason: ActionError) => {
      // The last one takes the run with it.
      if (run.sharers.size === 1 && run.isQueued) return execution.stop(reason);
      this.#end(run, sharer, execution.leftWith(reason));
    };
    return {
      stop,
      end: stop,
      // It has begun.
      release: () => {},
      get hasOthers() {
        return run.sharers.size > 1;
      },
    };
  }

  #end(run: Run<S>, sharer: S, settled: Settled): void {
    run.sharers.delete(sharer);
    this.#count(run);
    this.#options.onEnd(sharer, settled);
  }

  /** One in each turn of the event loop, since each is encoded and sent: many large ones would block the loop and fill the memory. */
  async #handOut(run: Run<S>, settled: Settled): Promise<void> {
    for (const sharer of run.sharers) {
      await new Promise(setImmediate);
      while (this.#pause !== undefined) await this.#pause.ended;
      if (run.sharers.has(sharer)) this.#end(run, sharer, ownOf(settled, sharer.call.id));
    }
  }

  #tidy(reads: EqualReads<S>): void {
    if (reads.inProgress > 0 || reads.next !== undefined) return;
    const { group, key } = reads;
    group.first = undefined;
    if (key !== undefined) group.byKey.delete(key);
    const isEmpty = group.first === undefined && group.byKey.size === 0;
    if (isEmpty && this.#groups.get(group.name) === group) this.#groups.delete(group.name);
  }
}

/** The next run of these reads has begun: who comes now waits for another one. */
function begun(reads: EqualReads<unknown>): void {
  reads.next = undefined;
  reads.inProgress++;
}

function newReads<S>(group: Group<S>, parameters: unknown, key?: string): EqualReads<S> {
  return { group, parameters, key, inProgress: 0, next: undefined };
}

/** Makes the first reads of a group known by their parameters, now that others are compared with them. */
function compareFirst<S>(group: Group<S>): void {
  const { first } = group;
  if (first === undefined) return;
  first.key = canonicalText(first.parameters, MAX_KEY_CHARACTERS);
  if (first.key !== undefined) group.byKey.set(first.key, first);
  group.first = undefined;
}

/** An unexpected error tells each caller the id of its own request. */
function ownOf(settled: Settled, id: string): Settled {
  if (settled.status !== 'error' || !('cause' in settled)) return settled;
  const { errors } = settledWith(settled.cause, id).body;
  return { ...settled, body: { ...settled.body, errors } };
}

/** The highest priority of those who share the run when it gets its place. */
function priorityOf<S extends Sharer>({ sharers }: Run<S>): number | undefined {
  let highest: number | undefined;
  for (const { call } of sharers)
    if (call.priority !== undefined && call.priority > (highest ?? 0)) highest = call.priority;
  return highest;
}
