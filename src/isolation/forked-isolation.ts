import { ActionError } from '../api/action-error.js';
import { type IsolatedCall, type Isolation, MustRunAlone } from '../core/isolation.js';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import { HandlerProcess, type HandlerProcessOptions, NotStarted, ProcessEnded } from './handler-process.js';

/** How many calls share a process: when it ends, each of them may have to run once more, one after the other. */
const SHARED_CALLS = 10;
/** How many processes calls share at most; further calls share them too. */
const SHARED_PROCESSES = 3;
/** How long a shared process stays without calls, in milliseconds. */
const IDLE_MS = 60_000;
/** How long a process that is no longer needed may take to clean up, in milliseconds. */
const END_MS = 3_000;
const BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 };

/** A process that calls share. */
interface Shared {
  readonly process: HandlerProcess;
  /** How many calls run in it, or wait for its start. */
  calls: number;
  cancelIdle: () => void;
}

/**
 * Runs calls in handler processes that they share. When one ends, each call that ran in it runs once more, here or elsewhere, alone in a
 * process of its own, one after the other; so only the call that ends its process is lost.
 */
export class ForkedIsolation implements Isolation {
  readonly #options: HandlerProcessOptions;
  readonly #shared = new Set<Shared>();
  #isClosed = false;
  /** At most one process besides the shared ones. */
  readonly #alone = new Semaphore(1);
  readonly #processes = new Set<HandlerProcess>();
  /** How many times in a row a process did not start, and the time of the next attempt. */
  #failedStarts = 0;
  #nextStart = 0;

  constructor(options: HandlerProcessOptions) {
    this.#options = options;
  }

  async run(call: IsolatedCall): Promise<unknown> {
    try {
      if (!call.isAlone) return await this.#runShared(call);
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
      if (call.onProcessEnd === 'unknown') throw outcomeUnknown(error);
      if (call.onProcessEnd === 'give-back') throw new MustRunAlone(error.message, { cause: error });
    }
    try {
      return await this.#runAlone(call);
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
      throw call.onProcessEnd === 'unknown' ? outcomeUnknown(error) : workerLost(error);
    }
  }

  async close(withinMs: number): Promise<void> {
    this.#isClosed = true;
    for (const { cancelIdle } of this.#shared) cancelIdle();
    await Promise.all([...this.#processes].map(async (each) => each.end(withinMs)));
  }

  async ready(limits: Pick<IsolatedCall, 'deadline' | 'signal'>): Promise<void> {
    await this.#inShared(limits, async () => {});
  }

  async #runShared(call: IsolatedCall): Promise<unknown> {
    return this.#inShared(call, async (process) => process.run(call));
  }

  async #inShared<T>(
    limits: Pick<IsolatedCall, 'deadline' | 'signal'>,
    work: (process: HandlerProcess) => Promise<T>,
  ): Promise<T> {
    let shared: Shared | undefined;
    try {
      const process = await this.#started(limits, () => {
        this.#leave(shared);
        shared = this.#enter();
        return shared.process;
      });
      return await work(process);
    } finally {
      this.#leave(shared);
    }
  }

  /** Takes a place in a shared process: of one that has room, or else of a new one, or else of the one with the fewest calls. */
  #enter(): Shared {
    const open = [...this.#shared].filter(({ process }) => process.isOpen);
    const least = open.toSorted((a, b) => a.calls - b.calls)[0];
    const hasRoom = open.find(({ calls }) => calls < SHARED_CALLS);
    const shared = hasRoom ?? (open.length < SHARED_PROCESSES ? undefined : least) ?? this.#share();
    shared.calls++;
    shared.cancelIdle();
    return shared;
  }

  #share(): Shared {
    const shared: Shared = { process: this.#fork(), calls: 0, cancelIdle: () => {} };
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

  async #runAlone(call: IsolatedCall): Promise<unknown> {
    const release = await this.#alone.acquire(call.signal);
    let own: HandlerProcess | undefined;
    try {
      const started = await this.#started(call, () => (own = this.#fork()));
      return await started.run(call);
    } finally {
      void (own?.end(END_MS) ?? Promise.resolve()).then(release);
    }
  }

  /** Waits for a process that can run the call. @param current the one to wait for; it may make one */
  async #started(
    { signal, deadline }: Pick<IsolatedCall, 'deadline' | 'signal'>,
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
