import type { Cancellable } from './cancellable.js';
import type { Token } from './token.js';

/** Runs commands on machines. */
export interface RemoteShell {
  /**
   * Runs one program with its arguments; no shell reads them. A failure is an `ActionError`, never an empty output.
   * @param host an address or host name, however it is written; `forbidden` where policy does not allow it
   */
  run(
    host: string,
    argv: readonly [string, ...string[]],
    options: Cancellable & { timeoutMs: number; maxOutputBytes: number; sudo?: boolean },
  ): Promise<{ stdout: string; stderr: string; truncated: boolean }>;
}

export const RemoteShell: Token<RemoteShell> = Symbol.for('fleet-manager:RemoteShell');
