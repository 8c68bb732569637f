/**
 * Faults:
 * - `refuse`: the socket is not listening, open connections are cut
 * - `hang`: the request is accepted and never answered
 * - `500`, `503`: the answer of a real server, without doing the work
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
      /** The requested address. */
      host?: string;
      /** The start of the path, or a pattern for the path with its query, as sent. */
      path?: string | RegExp;
      method?: string;
      /** How many requests it affects before it ends; left out: all. */
      times?: number;
    };

/**
 * Faults over SSH:
 * - `refuse`: the socket is not listening, open connections are cut
 * - `hang`: the command is accepted and ends only when its stdin is closed, or at its time limit
 * - `drop`: the connection is cut after the command was accepted
 * - `exit`: the command ends immediately, with this status and output
 */
export type SshFault =
  | { kind: 'refuse'; host?: string }
  | ({ kind: 'hang' | 'drop' } & CommandAim)
  | ({ kind: 'exit'; status: number; stdout?: string; stderr?: string } & CommandAim);

interface CommandAim {
  /** The requested address. */
  host?: string;
  /** The start of the program and its arguments, joined by spaces, or a pattern for them. */
  command?: string | RegExp;
  /** How many commands it affects before it ends; left out: all. */
  times?: number;
}

export type CommandFault = Exclude<SshFault, { kind: 'refuse' }>;

export type AnswerFaultKind =
  | 'hang'
  | '500'
  | '503'
  | 'drop'
  | 'drop-answer'
  | 'truncate'
  | 'garbage'
  | 'redirect';

export type AnswerFault = Exclude<Fault, { kind: 'refuse' }>;

interface Target {
  host: string;
  method: string;
  path: string;
}

/** The active faults of one service; the one that was added first applies first. */
export class OrderedFaults<F extends { times?: number }> {
  readonly #active = new Map<F, number>();

  /** @returns a function that ends the fault */
  add(fault: F): () => void {
    // A copy, so that the same object can be added twice.
    const added = { ...fault };
    this.#active.set(added, fault.times ?? Infinity);
    return () => {
      this.#active.delete(added);
    };
  }

  /** The fault for this request or command, counted as one use. */
  strike(isConcerned: (fault: F) => boolean): F | undefined {
    for (const [fault, left] of this.#active) {
      if (!isConcerned(fault)) continue;
      if (left > 1) this.#active.set(fault, left - 1);
      else this.#active.delete(fault);
      return fault;
    }
    return undefined;
  }
}

/** Whether a fault is meant for this request. */
export function concerns({ host, method, path }: AnswerFault, target: Target): boolean {
  if (host !== undefined && host !== target.host) return false;
  if (method !== undefined && method.toUpperCase() !== target.method) return false;
  return path === undefined || fits(path, target.path);
}

/** Whether a fault is meant for this command. */
export function concernsCommand(
  { host, command }: CommandFault,
  target: { host: string; argv: readonly string[] },
): boolean {
  if (host !== undefined && host !== target.host) return false;
  return command === undefined || fits(command, target.argv.join(' '));
}

function fits(pattern: string | RegExp, text: string): boolean {
  return typeof pattern === 'string' ? text.startsWith(pattern) : text.search(pattern) >= 0;
}
