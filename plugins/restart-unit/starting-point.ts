import { ActionError, type Cluster, type FleetTransport, isGlobalUnit } from '../../src/plugin.js';
import { describeState, type Observation } from './observation.js';
import { unmetRequirements } from './scheduling.js';
import { observe } from './unit-watch.js';

/** The state before a restart. */
export interface StartingPoint {
  seen: Observation;
  /** The host that showed it; undefined when that is not known. */
  host: string | undefined;
  /** The ids of the machines that fleet lists. */
  listed: ReadonlySet<string>;
  /** What is missing when fleet is known to list fewer machines than there are; not asked when it lists the unit's own. */
  missing: string | undefined;
}

/**
 * Reads the state before a restart.
 * @throws ActionError when the unit must not be restarted: it could not start again
 */
export async function startingPoint(
  name: string,
  {
    fleet,
    cluster,
    signal,
    warn,
    repeated,
  }: {
    fleet: FleetTransport;
    cluster: Cluster;
    signal: AbortSignal;
    warn: (text: string) => void;
    /** Whether another worker may have begun the same restart. */
    repeated: boolean;
  },
): Promise<StartingPoint> {
  const [{ seen, host }, machines] = await Promise.all([
    observe(name, fleet, cluster, { signal }),
    fleet.machines(cluster, { signal, warn }),
  ]);
  if (seen === undefined)
    throw new ActionError('unit_not_found', `Unable to load unit ${name}: the cluster has no such unit`);
  if (isGlobalUnit(seen.unit)) {
    throw new ActionError(
      'unit_is_global',
      `${name} is a global unit: it would stop on all machines at the same time, and fleet does not report when it is up again`,
    );
  }
  const { machineID } = seen.unit;
  const listed = new Set(machines.map(({ id }) => id));
  const unmet = unmetRequirements(seen.unit, machines);
  const isListed = machineID !== null && listed.has(machineID);
  const missing =
    isListed && unmet.length === 0 ? undefined : await fleet.incompleteness(cluster, { signal });
  const refuse = (code: string, why: string) => {
    // A worker before may have stopped it.
    const here = repeated ? ' by this run' : '';
    const text = `${name} was not changed${here} (${describeState(seen)}), because ${why}`;
    const details = unmet.length === 0 ? undefined : { requirements: unmet };
    return new ActionError(code, missing === undefined ? text : `${text}. ${missing}`, { details });
  };
  if (machines.length === 0)
    throw refuse('cluster_incomplete', 'it could not be started again: fleet lists no machine');
  if (unmet.length > 0) {
    throw refuse(
      missing === undefined ? 'unit_not_schedulable' : 'cluster_incomplete',
      `it could not be started again: no machine that fleet lists meets ${unmet.join(', ')}`,
    );
  }
  if (missing !== undefined && machineID !== null && !isListed)
    throw refuse('cluster_incomplete', 'fleet does not list its machine');
  return { seen, host, listed, missing };
}
