import type { Cancellable } from './cancellable.js';
import type { Token } from './token.js';

/** Runs commands on machines. */
export interface RemoteShell {
  /**
   * Runs one program with its arguments; no shell interprets them. Rejects with an `ActionError` on failure.
   * @param host an IP address or host name; the error is `forbidden` when the policy does not allow it
   */
  run(
    host: string,
    argv: readonly [string, ...string[]],
    options: Cancellable & { timeoutMs: number; maxOutputBytes: number; sudo?: boolean },
  ): Promise<{ stdout: string; stderr: string; truncated: boolean }>;
}

export const RemoteShell: Token<RemoteShell> = Symbol.for('fleet-manager:RemoteShell');
