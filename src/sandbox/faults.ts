/**
 * What goes wrong:
 * - `refuse`: the socket is not listening, open connections are cut
 * - `hang`: the request is taken and never answered
 * - `500`, `503`: as a real server says it, without doing the work
 * - `drop`: the connection is cut without an answer and without doing the work
 * - `drop-answer`: the work is done, then the connection is cut without an answer
 * - `truncate`: the work is done, the connection is cut in the middle of the answer
 * - `garbage`: 200 with a body that is not JSON
 * - `redirect`: 302 to `/elsewhere` on the same server
 */
export type Fault =
  | { kind: 'refuse'; host?: string }
  | {
      kind: AnswerFaultKind;
      /** The address that was asked. */
      host?: string;
      /** What the path begins with, or a pattern for the path with its query, as sent. */
      path?: string | RegExp;
      method?: string;
      /** How many requests it strikes before it ends by itself; left out: all. */
      times?: number;
    };

export type AnswerFaultKind =
  | 'hang'
  | '500'
  | '503'
  | 'drop'
  | 'drop-answer'
  | 'truncate'
  | 'garbage'
  | 'redirect';

type AnswerFault = Exclude<Fault, { kind: 'refuse' }>;

interface Target {
  host: string;
  method: string;
  path: string;
}

/** The faults in force on one service; the one added first strikes first. */
export class AnswerFaults {
  readonly #active = new Map<AnswerFault, number>();

  /** @returns ends the fault */
  add(fault: AnswerFault): () => void {
    // A copy, so that the same object can be added twice.
    const added = { ...fault };
    this.#active.set(added, fault.times ?? Infinity);
    return () => {
      this.#active.delete(added);
    };
  }

  /** What is to befall this request, counted as a strike. */
  strike(target: Target): AnswerFaultKind | undefined {
    for (const [fault, left] of this.#active) {
      if (!concerns(fault, target)) continue;
      if (left > 1) this.#active.set(fault, left - 1);
      else this.#active.delete(fault);
      return fault.kind;
    }
    return undefined;
  }
}

function concerns({ host, method, path }: AnswerFault, target: Target): boolean {
  if (host !== undefined && host !== target.host) return false;
  if (method !== undefined && method.toUpperCase() !== target.method) return false;
  if (path === undefined) return true;
  return typeof path === 'string' ? target.path.startsWith(path) : target.path.search(path) >= 0;
}
