import { untilAborted } from './until-aborted.js';

/** One piece of work for all callers that wait for it. */
interface Run<T> {
  begin: () => void;
  result: Promise<T>;
  callers: number;
  abort: AbortController;
}

/** A run in progress: the run that begins after it. */
interface Turn {
  next: Run<unknown> | undefined;
}

/**
 * Shares work between callers: for each key at most one run is in progress. Callers that come while one is in progress share
 * the next one, which begins when it has ended. So a run begins after the calls of all its callers.
 */
export class SharedRuns {
  readonly #turns = new Map<string, Turn>();

  /**
   * @param work rejects soon after its signal is aborted, which is when no caller waits any more; callers of a key give equal
   * work
   * @throws as the work does, or the signal's reason
   */
  async run<T>(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const run = this.#join(key, work) as Run<T>;
    run.callers += 1;
    try {
      return await untilAborted(run.result, signal);
    } finally {
      run.callers -= 1;
      if (run.callers === 0) run.abort.abort(signal.reason);
    }
  }

  #join<T>(key: string, work: (signal: AbortSignal) => Promise<T>): Run<unknown> {
    const turn = this.#turns.get(key);
    if (turn?.next !== undefined && !turn.next.abort.signal.aborted) return turn.next;
    const run = runOf<unknown>(work);
    if (turn === undefined) this.#begin(key, run);
    else turn.next = run;
    return run;
  }

  #begin(key: string, run: Run<unknown>): void {
    const turn: Turn = { next: undefined };
    this.#turns.set(key, turn);
    const end = () => {
      this.#turns.delete(key);
      if (turn.next !== undefined) this.#begin(key, turn.next);
    };
    run.begin();
    run.result.then(end, end);
  }
}

function runOf<T>(work: (signal: AbortSignal) => Promise<T>): Run<T> {
  const abort = new AbortController();
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const result = begun.then(async () => {
    abort.signal.throwIfAborted();
    return work(abort.signal);
  });
  return { begin, result, callers: 0, abort };
}
