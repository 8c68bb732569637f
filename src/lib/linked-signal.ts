import { setMaxListeners } from 'node:events';

/** A signal that is aborted with the first of several. */
export interface LinkedSignal {
  readonly signal: AbortSignal;
  abort: (reason: unknown) => void;
  /** To be called at the end: signals that live as long as the service would keep what listens to them. */
  unlink: () => void;
}

/** Links signals for the time of one call; the reason is that of the signal which was aborted first. */
export function linkSignals(...signals: readonly AbortSignal[]): LinkedSignal {
  const own = new AbortController();
  const unlinks = signals.map((signal) => {
    // Node warns of a leak at the eleventh listener, but as many calls as want to may be under way at once.
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
