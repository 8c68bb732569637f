import { setMaxListeners } from 'node:events';

/**
 * What the promise gives, unless the signal is aborted first: then rejects with the signal's reason, and what becomes of
 * the promise is no longer looked at.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    // Node warns of a leak at the eleventh listener, but as many as want to may wait at once.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', stop, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
