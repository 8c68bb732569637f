import type { Clock } from './clock.js';
import { linkSignals } from './linked-signal.js';

/** How long a piece of work may take. */
export interface TimeLimit {
  ms: number;
  clock: Pick<Clock, 'after'>;
  /** Makes the reason with which the work's signal is aborted at the time limit. */
  reason: () => unknown;
  /** Aborts the work's signal too, with its own reason; of several signals, the first that is aborted counts. */
  signal?: AbortSignal | readonly AbortSignal[];
}

/**
 * Runs work under a time limit: its signal is aborted at the limit, and with the outer signals.
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
