import type { MessagePort } from 'node:worker_threads';
import type { LogFormat } from '../telemetry/log-line.js';

/** What the thread of the watchdog gets. */
export interface ThreadData {
  /** Shared memory: the elements `TICKS`, `STOPPED` and `LOADING`. */
  state: Int32Array;
  /** Where the main thread posts each `SharedActivity`. */
  activities: MessagePort;
  seconds: number;
  /** The time between two looks at the ticks, in milliseconds. */
  periodMs: number;
  format: LogFormat;
}

/** The element of `state` to which the main thread adds 1 in each period. */
export const TICKS = 0;
/** The element of `state` that is 1 when the thread must end. */
export const STOPPED = 1;
/** The element of `state` that says how many packages the main thread is loading, one for another. */
export const LOADING = 2;
/** How many elements `state` has. */
export const STATE_LENGTH = 3;
