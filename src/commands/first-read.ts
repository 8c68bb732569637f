import type { ActionDescription } from '../core/catalogue.js';

/** The first of the actions that only reads, works on a cluster and needs no parameters; undefined: there is none. */
export function firstRead(actions: readonly ActionDescription[]): ActionDescription | undefined {
  return actions.find(
    ({ target, effect, parameters }) =>
      target === 'cluster' && effect === 'read' && !('required' in parameters),
  );
}
