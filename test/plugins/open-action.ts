import type { ExecutionContext } from 'ava';
import type { Action } from '../../src/plugin.js';
import { type OpenAction, openAction as open, type SandboxOptions } from '../../src/testing.js';
import { ManualClock } from '../support/manual-clock.js';

/** An action on a sandbox whose clock stands still; it goes with the test. */
export async function openAction(
  t: ExecutionContext,
  action: Action,
  options: SandboxOptions = {},
): Promise<OpenAction> {
  const opened = await open(action, { clock: new ManualClock(), ...options });
  t.teardown(opened.stop);
  return opened;
}

/** The names in an answer's rows, in their order. */
export async function names(answer: Promise<unknown>): Promise<string[]> {
  return ((await answer) as { name: string }[]).map(({ name }) => name);
}
