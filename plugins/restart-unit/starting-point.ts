import { ActionError, type Cluster, type FleetTransport, isGlobalUnit } from '../../src/plugin.js';
import { describeState, type Observation } from './observation.js';
import { unmetRequirements } from './scheduling.js';
import { observe } from './unit-watch.js';

/**
 * Reads the state before a restart.
 * @throws ActionError when the unit must not be restarted: it could not start again
 */
export async function startingPoint(
  name: string,
  { fleet, cluster, signal }: { fleet: FleetTransport; cluster: Cluster; signal: AbortSignal },
): Promise<Observation> {
  const [seen, machines] = await Promise.all([
    observe(name, fleet, cluster, { signal }),
    fleet.machines(cluster, { signal }),
  ]);
  if (seen === undefined)
    throw new ActionError('unit_not_found', `Unable to load unit ${name}: the cluster has no such unit`);
  if (isGlobalUnit(seen.unit)) {
    throw new ActionError(
      'unit_is_global',
      `${name} is a global unit: it would stop on all machines at the same time, and fleet does not report when it is up again`,
    );
  }
  const unmet = unmetRequirements(seen.unit, machines);
  if (unmet.length === 0) return seen;
  const missing = await fleet.incompleteness(cluster, { signal });
  const why = `${name} was not changed (${describeState(seen)}), because it could not be started again: no machine that fleet lists meets ${unmet.join(', ')}`;
  const details = { requirements: unmet };
  if (missing === undefined) throw new ActionError('unit_not_schedulable', why, { details });
  throw new ActionError('cluster_incomplete', `${why}. ${missing}`, { details });
}
