import { setMaxListeners } from 'node:events';

/**
 * Settles as the promise does. When the signal is aborted first, rejects with the signal's reason and ignores the
 * promise's later result.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    // Node warns of a leak at the eleventh listener, but any number of callers may wait.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', stop, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
