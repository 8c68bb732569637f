import { ActionError } from './action-error.js';

/** The part of a `Clock` that is used here. */
interface Alarm {
  after(ms: number, callback: () => void): () => void;
}

/**
 * Does work that may take so long and no longer: the signal it is given is aborted when the outer one is, if there is one,
 * and when the time is over, then with `timeout` and this message. For a part of a request that must not cost the whole of it.
 */
export async function withTimeLimit<T>(
  { ms, message, clock, signal }: { ms: number; message: string; clock: Alarm; signal?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const cancel = clock.after(ms, () => limit.abort(new ActionError('timeout', message)));
  try {
    return await work(signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]));
  } finally {
    cancel();
  }
}
