import { ActionError, type ActionRequest, type Clock } from '../../src/plugin.js';

type Request = Pick<ActionRequest<unknown, unknown>, 'signal' | 'drain'>;

/** Why no further batch begins. */
export type StopReason = 'deadline' | 'cancelled' | 'shutdown';

/** How long a change that is stopped has to report, in milliseconds; at a shutdown it may be less. */
const STOPPED_MS = 30_000;
/** What of that is for the answer itself. */
const ANSWER_MS = 1_000;

/** What stops a rollout from outside: its deadline, its caller, or the end of the service. */
export class Stops {
  readonly #request: Request;
  readonly #clock: Clock;
  readonly #stopping = new AbortController();
  readonly #late = new AbortController();
  readonly #undo: (() => void)[] = [];

  /** Call `close` at the end: it listens to a signal that lives as long as the service. */
  constructor(request: Request, clock: Clock) {
    const { signal, drain } = request;
    this.#request = request;
    this.#clock = clock;
    this.#on(drain.signal, () => this.#stop(drain.reportBy - clock.now()));
    this.#on(signal, () => this.#stop(STOPPED_MS));
  }

  /** Aborted when no further batch may begin; what runs goes on. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Aborted when what still runs is not waited for any more, as the answer would come too late. */
  get late(): AbortSignal {
    return this.#late.signal;
  }

  /** Undefined: nothing stops it. */
  get reason(): StopReason | undefined {
    const { signal, drain } = this.#request;
    const isLate = signal.reason instanceof ActionError && signal.reason.code === 'timeout';
    if (signal.aborted && isLate) return 'deadline';
    if (drain.signal.aborted) return 'shutdown';
    return signal.aborted ? 'cancelled' : undefined;
  }

  close(): void {
    for (const undo of this.#undo) undo();
  }

  #on(signal: AbortSignal, react: () => void): void {
    if (signal.aborted) return react();
    signal.addEventListener('abort', react, { once: true });
    this.#undo.push(() => signal.removeEventListener('abort', react));
  }

  /** @param reportMs how long it has to report */
  #stop(reportMs: number): void {
    this.#stopping.abort();
    const late = () => this.#late.abort(new ActionError('outcome_unknown', TOO_LATE));
    this.#undo.push(this.#clock.after(Math.max(0, reportMs - ANSWER_MS), late));
  }
}

const TOO_LATE = 'The rollout was stopped, and had to answer before this change had said what came of it';
