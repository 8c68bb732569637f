import type { ExecutionContext } from 'ava';
import type { Action } from '../../src/plugin.js';
import { type OpenAction, openAction as open, type OpenActionOptions } from '../../src/testing.js';
import { ManualClock } from '../support/manual-clock.js';

/** An action on a sandbox with a manual clock; stopped when the test ends. */
export async function openAction(
  t: ExecutionContext,
  action: Action,
  options: OpenActionOptions = {},
): Promise<OpenAction> {
  const opened = await open(action, { clock: new ManualClock(), ...options });
  t.teardown(opened.stop);
  return opened;
}

/** The names in a result's rows, in their order. */
export async function names(answer: Promise<unknown>): Promise<string[]> {
  return ((await answer) as { name: string }[]).map(({ name }) => name);
}
