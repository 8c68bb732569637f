import type { ActionDescription } from '../core/action-description.js';

/** The first action that only reads, runs against a cluster and requires no parameters; undefined: there is none. */
export function firstRead(actions: readonly ActionDescription[]): ActionDescription | undefined {
  return actions.find(
    ({ target, effect, parameters }) =>
      target === 'cluster' && effect === 'read' && !('required' in parameters),
  );
}
