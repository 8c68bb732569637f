import type { Cluster, FleetTransport, RequestLog, Unit } from '../../src/plugin.js';
import { failureText } from './unit-watch.js';

/**
 * What the hosts of the cluster show of a restart whose worker has ended. `stopped`: it has stopped the unit and not launched
 * it. `unclear`: some hosts show that, and others show it launched, as one of them may lag behind. `other`: anything else.
 */
export async function leftBehind(
  name: string,
  parts: { fleet: FleetTransport; cluster: Cluster; signal: AbortSignal; log: RequestLog },
): Promise<'stopped' | 'unclear' | 'other'> {
  const { fleet, cluster, signal, log } = parts;
  const shown = new Set<string | null | undefined>();
  try {
    // None is accepted, so that all are asked.
    await fleet.unit(cluster, name, {
      signal,
      accepts: (unit?: Unit) => {
        shown.add(unit?.desiredState);
        return false;
      },
    });
  } catch (error) {
    if (shown.size === 0 || signal.aborted) throw error;
    log.debug('unit state not available', { reason: failureText(error) });
  }
  if (!shown.has('loaded')) return 'other';
  return shown.has('launched') ? 'unclear' : 'stopped';
}
