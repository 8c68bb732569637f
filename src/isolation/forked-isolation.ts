import { ActionError } from '../api/action-error.js';
import type { IsolatedCall, Isolation } from '../core/isolation.js';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import { HandlerProcess, type HandlerProcessOptions, NotStarted, ProcessEnded } from './handler-process.js';

/** How long the shared process stays without calls, in milliseconds. */
const IDLE_MS = 60_000;
/** How long a process that is no longer needed may take to clean up, in milliseconds. */
const END_MS = 3_000;
const BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 };

/**
 * Runs calls in handler processes: all of them in one that they share. When that ends, each call that ran in it runs once
 * more, alone in a process of its own, one after the other; so only the call that ends its process is lost.
 */
export class ForkedIsolation implements Isolation {
  readonly #options: HandlerProcessOptions;
  #shared: HandlerProcess | undefined;
  #cancelIdle = () => {};
  #isClosed = false;
  /** At most one process besides the shared one. */
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
      return await this.#runShared(call);
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
      if (!call.mayRunAgain) throw outcomeUnknown(error);
    }
    try {
      return await this.#runAlone(call);
    } catch (error) {
      throw error instanceof ProcessEnded ? workerLost(error) : error;
    }
  }

  async close(withinMs: number): Promise<void> {
    this.#isClosed = true;
    this.#cancelIdle();
    await Promise.all([...this.#processes].map(async (each) => each.end(withinMs)));
  }

  async #runShared(call: IsolatedCall): Promise<unknown> {
    const shared = await this.#started(call, () => (this.#shared ??= this.#fork()));
    this.#cancelIdle();
    return shared.run(call).finally(() => shared.running === 0 && this.#endWhenIdle(shared));
  }

  #endWhenIdle(shared: HandlerProcess): void {
    if (shared !== this.#shared || this.#isClosed) return;
    this.#cancelIdle();
    this.#cancelIdle = this.#options.clock.after(IDLE_MS, () => void shared.end(END_MS));
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
  async #started(call: IsolatedCall, current: () => HandlerProcess): Promise<HandlerProcess> {
    const { clock } = this.#options;
    const { signal, deadline } = call;
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
    this.#endWhenIdle(process);
  }

  async #watchEnd(process: HandlerProcess): Promise<void> {
    await process.ended;
    this.#processes.delete(process);
    if (this.#shared === process) this.#shared = undefined;
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
    'This request was delivered before, and the process that ran it here has ended twice; it is not run again. The log of the service says how each process ended',
    { cause },
  );
}

function unavailable(): ActionError {
  return new ActionError(
    'service_unavailable',
    "No process could be started for this request, which was delivered before; the service's log has the reason",
  );
}
