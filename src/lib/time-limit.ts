import type { Clock } from './clock.js';
import { linkSignals } from './linked-signal.js';

/** How long a piece of work may take. */
export interface TimeLimit {
  ms: number;
  clock: Pick<Clock, 'after'>;
  /** Gives what the work's signal is aborted with when the time is over. */
  reason: () => unknown;
  /** Ends the work too, with its own reason. */
  signal?: AbortSignal;
}

/**
 * Does work that may take so long: its signal is aborted when the time is over, and with the outer signal. Waits for the
 * work to settle; wrap it in `untilAborted` where it may not heed its signal.
 */
export async function runWithin<T>(
  { ms, clock, reason, signal }: TimeLimit,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const link = linkSignals(...(signal === undefined ? [] : [signal]));
  const cancel = clock.after(ms, () => link.abort(reason()));
  try {
    return await work(link.signal);
  } finally {
    cancel();
    link.unlink();
  }
}
