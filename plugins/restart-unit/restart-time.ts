import type { Clock } from '../../src/plugin.js';
import { CALL_MS, POLL_MS } from './unit-watch.js';

/** The minimum for launching the unit when stopping has used up the time. All in milliseconds. */
const MIN_LAUNCH_MS = 15_000;
/** The minimum wait for the start when stopping and launching have used up the time. */
const MIN_START_MS = 3_000;
/** How long ordering the stop is retried. */
const STOP_ORDER_MS = 7_000;
/** How long after an abort to wait for the stop. */
const ABORTED_STOP_MS = 3_000;
/** How long after an abort launching is retried. With a last call it stays below the 30 s that the service waits. */
const ABORTED_LAUNCH_MS = 22_000;

/** How much time a restart has for its steps: `waitMs`, unless its request is aborted earlier. */
export class RestartTime {
  readonly #startedAt: number;
  readonly #end: number;
  readonly #clock: Clock;
  #abortedAt: number | undefined;

  constructor(clock: Clock, signal: AbortSignal, waitMs: number) {
    this.#clock = clock;
    this.#startedAt = clock.now();
    this.#end = this.#startedAt + waitMs;
    signal.addEventListener('abort', () => (this.#abortedAt = clock.now()), { once: true });
  }

  get isAborted(): boolean {
    return this.#abortedAt !== undefined;
  }

  /** Whether there is time for one more attempt to order the stop. */
  leavesStopOrder(): boolean {
    return !this.isAborted && this.#leavesCall(this.#startedAt + STOP_ORDER_MS);
  }

  /** Whether to wait longer for the stop. */
  leavesStop(): boolean {
    const abortedEnd = this.#abortedAt === undefined ? Infinity : this.#abortedAt + ABORTED_STOP_MS;
    return this.#clock.now() < Math.min(this.#end, abortedEnd);
  }

  /** Whether there is time for one more attempt to launch the unit. @param from when launching began */
  leavesLaunch(from: number): boolean {
    if (this.#abortedAt !== undefined) return this.#leavesCall(this.#abortedAt + ABORTED_LAUNCH_MS);
    return this.#leavesCall(Math.max(this.#end, from + MIN_LAUNCH_MS));
  }

  /** Whether to wait longer for the start. @param launchedAt when the unit was launched */
  leavesStart(launchedAt: number): boolean {
    return this.#clock.now() < Math.max(this.#end, launchedAt + MIN_START_MS);
  }

  #leavesCall(end: number): boolean {
    return this.#clock.now() + POLL_MS + CALL_MS <= end;
  }
}
