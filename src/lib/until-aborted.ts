import { setMaxListeners } from 'node:events';

/**
 * The value of the promise, unless the signal is aborted first: then rejects with the signal's reason and ignores the
 * promise from then on.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    // Node warns of a leak at the eleventh listener, but any number of waiters may share a signal.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', stop, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
