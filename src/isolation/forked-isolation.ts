import { ActionError } from '../api/action-error.js';
import {
  type IsolatedCall,
  type IsolatedPlace,
  type Isolation,
  MustRunAlone,
  NeverBegan,
  type PlaceNeeds,
} from '../core/isolation.js';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import { HandlerProcess, type HandlerProcessOptions, NotStarted, ProcessEnded } from './handler-process.js';

/** How many calls share a process: when it ends, each of them may have to run once more, alone. */
const SHARED_CALLS = 10;
/** How many processes calls of a kind share at most; further calls share them too. */
const SHARED_PROCESSES = 2;
/** How many calls run alone at a time; others wait. */
const ALONE_PROCESSES = 2;
/** How long a shared process stays without calls, in milliseconds. */
const IDLE_MS = 60_000;
/** How long a process that is no longer needed may take to clean up, in milliseconds. */
const END_MS = 3_000;
const BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 };

/** A process that calls share. */
interface Shared {
  /** Whether its calls are given back: when all of them are, it is ended, so no other may be in it. */
  readonly isGivenBack: boolean;
  readonly process: HandlerProcess;
  /** How many calls run in it, or wait for its start. */
  calls: number;
  cancelIdle: () => void;
}

/** A process that a call shares, or has to itself. */
class Place implements IsolatedPlace {
  readonly #process: HandlerProcess;
  readonly #onEnd: (error: ProcessEnded, call: IsolatedCall) => Promise<unknown>;
  #onLeave: (() => void) | undefined;

  /** @param onEnd what becomes of a call whose process has ended */
  constructor(
    process: HandlerProcess,
    onLeave: () => void,
    onEnd: (error: ProcessEnded, call: IsolatedCall) => Promise<unknown>,
  ) {
    this.#process = process;
    this.#onLeave = onLeave;
    this.#onEnd = onEnd;
  }

  async run(call: IsolatedCall): Promise<unknown> {
    let ended: ProcessEnded;
    try {
      return await this.#process.run(call);
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
      ended = error;
    } finally {
      this.leave();
    }
    return this.#onEnd(ended, call);
  }

  leave(): void {
    this.#onLeave?.();
    this.#onLeave = undefined;
  }
}

/**
 * Runs calls in handler processes that they share. When one ends, each call that ran in it runs once more, here or elsewhere, alone in a
 * process of its own; so only the call that ends its process is lost.
 */
export class ForkedIsolation implements Isolation {
  readonly #options: HandlerProcessOptions;
  readonly #shared = new Set<Shared>();
  #isClosed = false;
  readonly #alone = new Semaphore(ALONE_PROCESSES);
  readonly #processes = new Set<HandlerProcess>();
  /** How many times in a row a process did not start, and the time of the next attempt. */
  #failedStarts = 0;
  #nextStart = 0;

  constructor(options: HandlerProcessOptions) {
    this.#options = options;
  }

  async enter(needs: PlaceNeeds): Promise<IsolatedPlace> {
    return needs.isAlone ? this.#enterAlone(needs) : this.#enterShared(needs);
  }

  async run(call: IsolatedCall): Promise<unknown> {
    const place = await this.enter(call);
    return place.run(call);
  }

  async close(withinMs: number): Promise<void> {
    this.#isClosed = true;
    for (const { cancelIdle } of this.#shared) cancelIdle();
    await Promise.all([...this.#processes].map(async (each) => each.end(withinMs)));
  }

  async #enterShared(needs: PlaceNeeds): Promise<IsolatedPlace> {
    const isGivenBack = needs.onProcessEnd === 'give-back';
    let shared: Shared | undefined;
    const leave = () => this.#leave(shared);
    try {
      const process = await this.#responding(needs, () => {
        leave();
        shared = this.#join(isGivenBack);
        return shared.process;
      });
      return new Place(process, leave, async (error, call) => {
        if (isGivenBack) throw new MustRunAlone(error.message, { cause: error });
        if (error.progress !== 'begun') return this.#runUnbegun(call);
        if (call.onProcessEnd === 'unknown') throw outcomeUnknown(error);
        const alone = await this.#enterAlone(call);
        return alone.run(call);
      });
    } catch (error) {
      leave();
      throw error;
    }
  }

  async #enterAlone(needs: PlaceNeeds): Promise<IsolatedPlace> {
    const release = await this.#alone.acquire(needs.signal);
    let own: HandlerProcess | undefined;
    const leave = () => void (own?.end(END_MS) ?? Promise.resolve()).then(release);
    try {
      const process = await this.#responding(needs, () => (own = this.#fork()));
      return new Place(process, leave, async (error, call) => {
        // What was sent may have ended the process while that read it.
        if (error.progress === 'not sent') return this.#runUnbegun(call);
        const isUnknown = error.progress === 'begun' && call.onProcessEnd === 'unknown';
        throw isUnknown ? outcomeUnknown(error) : workerLost(error);
      });
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Runs a call alone whose process ended before it began. */
  async #runUnbegun(call: IsolatedCall): Promise<unknown> {
    let alone: IsolatedPlace;
    try {
      alone = await this.#enterAlone(call);
    } catch (error) {
      throw error === call.signal.reason ? new NeverBegan(error) : error;
    }
    return alone.run(call);
  }

  /** Takes a place in a shared process: of one that has room, or else of a new one, or else of the one with the fewest calls. */
  #join(isGivenBack: boolean): Shared {
    const open = [...this.#shared].filter((each) => each.isGivenBack === isGivenBack && each.process.isOpen);
    const least = open.toSorted((a, b) => a.calls - b.calls)[0];
    const hasRoom = open.find(({ calls }) => calls < SHARED_CALLS);
    const shared =
      hasRoom ?? (open.length < SHARED_PROCESSES ? undefined : least) ?? this.#share(isGivenBack);
    shared.calls++;
    shared.cancelIdle();
    return shared;
  }

  #share(isGivenBack: boolean): Shared {
    const shared: Shared = { isGivenBack, process: this.#fork(), calls: 0, cancelIdle: () => {} };
    this.#shared.add(shared);
    void shared.process.ended.then(() => this.#shared.delete(shared));
    return shared;
  }

  #leave(shared: Shared | undefined): void {
    if (shared === undefined) return;
    shared.calls--;
    if (shared.calls > 0 || this.#isClosed || !shared.process.isOpen) return;
    shared.cancelIdle();
    shared.cancelIdle = this.#options.clock.after(IDLE_MS, () => void shared.process.end(END_MS));
  }

  /** Waits for a process that responds. @param current the one to wait for; it may make one */
  async #responding(
    { signal, deadline }: PlaceNeeds,
    current: () => HandlerProcess,
  ): Promise<HandlerProcess> {
    const { clock } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      if (this.#isClosed) throw unavailable();
      const pauseMs = this.#nextStart - clock.now();
      if (pauseMs > 0) {
        if (clock.now() + pauseMs >= deadline) throw unavailable();
        await clock.sleep(pauseMs, { signal });
        continue;
      }
      const process = current();
      try {
        await untilAborted(process.isOpen ? process.ready : process.ended, signal);
        await untilAborted(process.responds(), signal);
      } catch (error) {
        if (!(error instanceof NotStarted)) throw error;
      }
      if (process.isOpen) return process;
    }
  }

  #fork(): HandlerProcess {
    const process = new HandlerProcess(this.#options);
    this.#processes.add(process);
    void this.#watchStart(process);
    void this.#watchEnd(process);
    return process;
  }

  async #watchStart(process: HandlerProcess): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await process.ready;
    } catch (error) {
      // It was ended because nothing needs it any more.
      if (process.isEnding) return;
      this.#failedStarts++;
      const pauseMs = Math.round(backoffMs(this.#failedStarts, BACKOFF));
      this.#nextStart = clock.now() + pauseMs;
      log.warn('handler process not started', { reason: reasonOf(error), retry_in_ms: pauseMs });
      return;
    }
    this.#failedStarts = 0;
    log.info('handler process started', { pid: process.pid });
  }

  async #watchEnd(process: HandlerProcess): Promise<void> {
    await process.ended;
    this.#processes.delete(process);
  }
}

function outcomeUnknown(cause: ProcessEnded): ActionError {
  return new ActionError(
    'outcome_unknown',
    'The process that ran this change ended: the change may or may not have been made',
    { details: { stopped_by: 'worker_lost' }, cause },
  );
}

function workerLost(cause: ProcessEnded): ActionError {
  return new ActionError(
    'worker_lost',
    'This request was delivered before, and the processes that ran it since have ended twice; it is not run again. The logs of the service say how each process ended',
    { cause },
  );
}

function unavailable(): ActionError {
  return new ActionError(
    'service_unavailable',
    "No process could be started for this request, which was delivered before; the service's log has the reason",
  );
}
