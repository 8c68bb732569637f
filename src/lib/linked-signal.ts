import { setMaxListeners } from 'node:events';

/** A signal that is aborted with the first of several others. */
export interface LinkedSignal {
  readonly signal: AbortSignal;
  abort: (reason: unknown) => void;
  /** Must be called at the end: the other signals may live as long as the service, and would keep the listeners. */
  unlink: () => void;
}

/** Links signals for one call; the reason is that of the signal that was aborted first. */
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
