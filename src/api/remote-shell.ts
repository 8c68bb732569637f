import type { ActionError } from './action-error.js';
import type { Cancellable } from './cancellable.js';
import type { Token } from './token.js';

/** Runs commands on machines. */
export interface RemoteShell {
  /**
   * Runs one program with its arguments; no shell interprets them. Its environment is `PATH`, `HOME`, `USER` and `LOGNAME` of
   * the login, `TZ=UTC` and `LC_ALL=C`. A login is used for 30 s, so changes of the user's groups take effect within that
   * time. Rejects with an `ActionError` on failure.
   *
   * `command_failed` has the details `{ host, begun, exitStatus, signal, stderr }`. `begun` is false when nothing shows that
   * the program was run: the login shell on the machine, or `sudo`, did not run it, or hid its output. `timeout` has the details
   * `{ host, timeoutMs, begun }` when `timeoutMs` has passed.
   *
   * Whether the program may have changed something after a failure:
   * - With `effect: 'change'` the error is `outcome_unknown` when the program may have begun and it is not known how it
   *   ended: the connection was lost, the time limit passed, the signal was aborted, there was too much output, or nothing shows
   *   whether it was run. Every other error guarantees that it did not begin, except for `command_failed` with `begun: true`:
   *   then it has ended.
   * - With `effect: 'read'`, the default, the error names the cause, such as `host_unreachable` or `timeout`, and says nothing
   *   about that.
   *
   * @param host an IP address or host name; the error is `forbidden` when the policy does not allow it
   */
  run(host: string, argv: readonly [string, ...string[]], options: RemoteRunOptions): Promise<RemoteOutput>;
}

export interface RemoteRunOptions extends Cancellable {
  /** The time limit for the program, in milliseconds, without the time to connect. */
  timeoutMs: number;
  /** The limit for each of stdout and stderr, in bytes. A program that writes more is stopped. */
  maxOutputBytes: number;
  /** Whether the program runs as root, by `sudo -n`; the setting of the service by default. */
  sudo?: boolean;
  /** Whether the program may change something; `read` by default. */
  effect?: 'read' | 'change';
  /** Aborted: a command that the host has not got yet is not sent any more. By default `signal` says so, which also stops one that runs. */
  startSignal?: AbortSignal;
  /** Called when the program has written something: its machine responds. */
  onOutput?: () => void;
  /** Whether to resolve also for an exit status other than 0, so that the output can be used; false by default. */
  anyExitStatus?: boolean;
  /** Whether a read that exceeds its time limit resolves with what it wrote so far; false by default. */
  partial?: boolean;
}

/** What the program wrote; not what the login shell on the machine printed. */
export interface RemoteOutput {
  stdout: string;
  stderr: string;
  /** Whether the program was stopped because it wrote too much. */
  truncated: boolean;
  /** With `anyExitStatus`: the `command_failed` when the exit status is not 0. With `partial`: the `timeout`. */
  failure?: ActionError;
}

export const RemoteShell: Token<RemoteShell> = Symbol.for('fleet-manager:RemoteShell');
