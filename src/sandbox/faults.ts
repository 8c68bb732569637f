/**
 * A simulated failure of an HTTP service:
 * - `refuse`: the service does not listen, open connections are closed
 * - `freeze`: as a process that is stopped and goes on later: connections and requests are accepted, and processed when the
 *   fault ends, also those whose client has gone
 * - `hang`: the request is accepted and never answered
 * - `500`, `503`: this status with a real server's body; the request is not processed
 * - `drop`: the connection is closed without a response; the request is not processed
 * - `drop-answer`: the request is processed, then the connection is closed without a response
 * - `truncate`: the request is processed, then the connection is closed in the middle of the response
 * - `garbage`: 200 with a body that is not JSON
 * - `redirect`: 302 to `/elsewhere` on the same server
 */
export type Fault =
  | { kind: 'refuse'; host?: string }
  | { kind: 'freeze'; host?: string }
  | {
      kind: ResponseFaultKind;
      /** Only requests to this address. */
      host?: string;
      /** Only paths that begin with this text, or match this pattern (path and query as sent). */
      path?: string | RegExp;
      method?: string;
      /** The number of requests that fail before the fault ends; all by default. */
      times?: number;
    };

/**
 * A simulated failure over SSH:
 * - `refuse`: the server does not listen, open connections are closed
 * - `hang`: the command starts and runs until its stdin is closed or its time limit is reached
 * - `drop`: the connection is closed when the command has been received
 * - `exit`: the command ends immediately, with this status and output
 * - `not-run`: the login shell ends with this status and output, without running the command
 */
export type SshFault =
  | { kind: 'refuse'; machine?: string }
  | ({ kind: 'hang' | 'drop' } & CommandAim)
  | ({ kind: 'exit' | 'not-run'; status: number; stdout?: string; stderr?: string } & CommandAim);

interface CommandAim {
  /** Only commands on the machine with this id or address. */
  machine?: string;
  /** Only commands that begin with this text, or match this pattern (program and arguments joined by spaces). */
  command?: string | RegExp;
  /** The number of commands that fail before the fault ends; all by default. */
  times?: number;
}

export type CommandFault = Exclude<SshFault, { kind: 'refuse' }>;

export type ResponseFaultKind =
  | 'hang'
  | '500'
  | '503'
  | 'drop'
  | 'drop-answer'
  | 'truncate'
  | 'garbage'
  | 'redirect';

export type ResponseFault = Exclude<Fault, { kind: 'refuse' | 'freeze' }>;

interface Target {
  host: string;
  method: string;
  path: string;
}

/** The active faults of one service, in the order in which they were added. */
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

  /** The first fault that matches; it counts as used once. */
  next(matches: (fault: F) => boolean): F | undefined {
    for (const [fault, left] of this.#active) {
      if (!matches(fault)) continue;
      if (left > 1) this.#active.set(fault, left - 1);
      else this.#active.delete(fault);
      return fault;
    }
    return undefined;
  }
}

/** Whether a fault applies to this request. */
export function matchesRequest({ host, method, path }: ResponseFault, target: Target): boolean {
  if (host !== undefined && host !== target.host) return false;
  if (method !== undefined && method.toUpperCase() !== target.method) return false;
  return path === undefined || fits(path, target.path);
}

/** Whether a fault, whose machine is an address, applies to this command. */
export function matchesCommand(
  { machine, command }: CommandFault,
  target: { host: string; argv: readonly string[] },
): boolean {
  if (machine !== undefined && machine !== target.host) return false;
  return command === undefined || fits(command, target.argv.join(' '));
}

function fits(pattern: string | RegExp, text: string): boolean {
  return typeof pattern === 'string' ? text.startsWith(pattern) : text.search(pattern) >= 0;
}
