import { mixed, number, object, string } from 'yup';
import { type Action, defineAction } from '../../src/plugin.js';

const anything = mixed().meta({ format: 'anything' });

/** Returns the number that it was sent. */
export const echo = defineAction({
  name: 'echo',
  summary: 'Gives back a number.',
  target: 'none',
  effect: 'read',
  parameters: object({ number: number().integer().default(0).meta({ description: 'The number.' }) }),
  result: anything,
  handle: async ({ parameters }) => ({ number: parameters.number }),
});

/** An action on a cluster that does what the test says. */
export function doing(
  handle: (request: Parameters<Action['handle']>[0]) => Promise<object | undefined>,
  definition: Partial<
    Pick<Action, 'name' | 'effect' | 'target' | 'redelivery' | 'coalesce' | 'timeoutMs' | 'parameters'>
  > & {
    probe?: (request: Parameters<Action['handle']>[0]) => Promise<object | undefined>;
  } = {},
): Action {
  return defineAction({
    name: 'act',
    summary: 'Does what the test says.',
    target: 'optional',
    effect: 'read',
    parameters: object({ text: string().meta({ description: 'Any text.' }) }),
    result: anything,
    handle: async (request) => handle(request),
    ...definition,
  });
}

/** An action that runs until `finishRun` is called. */
export function held(definition: Parameters<typeof doing>[1] = {}): {
  action: Action;
  /** How many runs have begun. */
  begun: () => number;
  finishRun: () => void;
} {
  let begun = 0;
  const gates: (() => void)[] = [];
  const action = doing(async ({ signal }) => {
    begun++;
    const run = begun;
    await new Promise<void>((resolve, reject) => {
      gates.push(resolve);
      signal.addEventListener('abort', () => reject(signal.reason));
    });
    return { run };
  }, definition);
  return { action, begun: () => begun, finishRun: () => gates.splice(0).forEach((gate) => gate()) };
}
