import type { AccessQuestion } from '../core/access-policy.js';
import { printable } from '../lib/printable.js';
import { callerPattern } from './caller-pattern.js';

const MOST_UNITS = 5;
const MOST_CHARACTERS = 300;

/** Which rule would allow it, in one sentence. It contains no etcd token. */
export function neededRule({ caller, action, cluster, units, unitMarks }: AccessQuestion): string {
  const shown = units.slice(0, MOST_UNITS).join(', ');
  const more = units.length > MOST_UNITS ? ` and ${units.length - MOST_UNITS} more` : '';
  const covering =
    units.length > 0
      ? `, that covers the ${units.length === 1 ? 'unit' : 'units'} ${shown}${more}`
      : withoutUnit(unitMarks, action.effect);
  const who = printable(callerPattern(caller).slice(0, MOST_CHARACTERS));
  return `It needs a rule for the caller ${who}, for the action ${action.name} or the effect ${action.effect}, ${onCluster(cluster)}${covering}.`;
}

/** A rule without `clusters` is for every cluster. */
function onCluster(cluster: AccessQuestion['cluster']): string {
  if (cluster === undefined) return 'without a cluster: one without `clusters`';
  return cluster.name === undefined
    ? `on a cluster that has no name in CLUSTERS_FILE (hash ${cluster.hash}): one without \`clusters\``
    : `on the cluster ${cluster.name}`;
}

function withoutUnit(
  unitMarks: AccessQuestion['unitMarks'],
  effect: AccessQuestion['action']['effect'],
): string {
  if (unitMarks === 'none') return ', and without `units`, as the action knows no units';
  return unitMarks === 'names' && effect === 'change'
    ? ', and without `units`, as the request names no unit'
    : '';
}
