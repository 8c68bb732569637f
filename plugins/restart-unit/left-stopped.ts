import type { Cluster, FleetTransport, RequestLog, Unit } from '../../src/plugin.js';
import { failureText } from './unit-watch.js';

/**
 * Whether the unit is as a restart leaves it between its stop and its launch, as far as any host of the cluster shows it: a
 * host that lags behind may show the state before.
 */
export async function isLeftStopped(
  name: string,
  parts: { fleet: FleetTransport; cluster: Cluster; signal: AbortSignal; log: RequestLog },
): Promise<boolean> {
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
  return shown.has('loaded');
}
