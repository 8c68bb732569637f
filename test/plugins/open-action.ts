import type { ExecutionContext } from 'ava';
import { type Action, FleetTransport } from '../../src/plugin.js';
import { type ActionDescription, prepareAction } from '../../src/runtime/catalogue.js';
import { type OpenFleet, openFleet, type OpenFleetOptions } from '../fleet/open-fleet.js';

export interface OpenAction extends OpenFleet {
  description: ActionDescription;
  /** Runs the action on the sandbox's first cluster with these `action_parameters`, checked as the service does. */
  run: (parameters?: unknown) => Promise<unknown>;
}

/** An action that needs nothing but a cluster's fleet, on a sandbox; it goes with the test. */
export async function openAction(
  t: ExecutionContext,
  action: Action,
  options: OpenFleetOptions = {},
): Promise<OpenAction> {
  const parts = await openFleet(t, options);
  const { description, check, run } = prepareAction(action, (token) => {
    if (token === FleetTransport) return parts.fleet;
    throw new Error(`there is no ${String(token)} here`);
  });
  return {
    ...parts,
    description,
    run: async (parameters) => {
      const answer = await run({
        parameters: check(parameters),
        cluster: parts.cluster,
        signal: new AbortController().signal,
        log: parts.log.log,
        id: 'test',
      });
      // What is answered is what the catalogue promises.
      action.result.validateSync(answer, { strict: true });
      return answer;
    },
  };
}

/** The names in an answer's rows, in their order. */
export async function names(answer: Promise<unknown>): Promise<string[]> {
  return ((await answer) as { name: string }[]).map(({ name }) => name);
}
