import { setMaxListeners } from 'node:events';

/** A signal that is aborted when the first of several signals is. */
export interface LinkedSignal {
  readonly signal: AbortSignal;
  abort: (reason: unknown) => void;
  /** Call this at the end: a signal that lives as long as the service would otherwise keep its listeners. */
  unlink: () => void;
}

/** Links signals for the time of one call; the abort reason is that of the signal that was aborted first. */
export function linkSignals(...signals: readonly AbortSignal[]): LinkedSignal {
  const own = new AbortController();
  const unlinks = signals.map((signal) => {
    // Node warns of a leak at the eleventh listener, but any number of calls may be in progress.
    setMaxListeners(0, signal);
    const abort = () => own.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    return () => signal.removeEventListener('abort', abort);
  });
  return {
    signal: own.signal,
    abort: (reason) => own.abort(reason),
    unlink: () => {
      for (const unlink of unlinks) unlink();
    },
  };
}
