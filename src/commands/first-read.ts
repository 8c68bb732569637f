import type { ActionDescription } from '../core/action-description.js';
import { fieldsOf } from '../lib/fields-of.js';

/**
 * The first action that only reads, runs against a cluster and requires no parameters; undefined: there is none. One with
 * optional parameters is preferred: it lists something, while one without any may check the whole cluster and take long.
 */
export function firstRead(actions: readonly ActionDescription[]): ActionDescription | undefined {
  const reads = actions.filter(
    ({ target, effect, parameters }) =>
      target === 'cluster' && effect === 'read' && !('required' in parameters),
  );
  const hasFilters = ({ parameters }: ActionDescription) =>
    Object.keys(fieldsOf(parameters.properties)).length > 0;
  return reads.find(hasFilters) ?? reads[0];
}
