import type { Clock } from './clock.js';
import { linkSignals } from './linked-signal.js';

/** How long an operation may take. */
export interface TimeLimit {
  ms: number;
  clock: Pick<Clock, 'after'>;
  /** Creates the abort reason for the time limit. */
  reason: () => unknown;
  /** Outer signals: when one is aborted, the work's signal is aborted with the same reason. */
  signal?: AbortSignal | readonly AbortSignal[];
}

/**
 * Runs work under a time limit: its signal is aborted at the limit, or when an outer signal is aborted.
 * Waits until the work has settled; wrap work that may ignore its signal in `untilAborted`.
 */
export async function runWithin<T>(
  { ms, clock, reason, signal }: TimeLimit,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const link = linkSignals(...[signal ?? []].flat());
  const cancel = clock.after(ms, () => link.abort(reason()));
  try {
    return await work(link.signal);
  } finally {
    cancel();
    link.unlink();
  }
}
