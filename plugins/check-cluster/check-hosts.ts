import { askMachines } from './ask-machines.js';
import type { CheckContext } from './check-context.js';
import { clockFindings } from './clock-findings.js';
import { conditionsOf } from './conditions.js';
import { diskFindings } from './disk-findings.js';
import type { Finding } from './finding.js';
import { runningWithoutFile } from './left-behind.js';
import { hostNotAnswering, sharedIDs, unreadableParts } from './machine-findings.js';
import { outdatedUnits } from './outdated-units.js';
import { unitFindings } from './unit-findings.js';
import { wantedAndNotActive } from './wanted-units.js';

/** Checks a cluster of plain hosts with systemd: what the hosts say themselves is all that there is. */
export async function checkHosts({ cluster, fleet, ...context }: CheckContext): Promise<Finding[]> {
  const addresses = await fleet.addresses(cluster, { signal: context.signal });
  const hosts = addresses.flatMap(({ host }) => (host === null ? [] : [{ id: null, host }]));
  const { reports, silent } = await askMachines(hosts, context);
  const conditions = conditionsOf(reports, [], new Map());
  return [
    ...silent.map(hostNotAnswering),
    ...unreadableParts(reports),
    ...sharedIDs(reports),
    ...unitFindings(conditions),
    ...wantedAndNotActive(conditions, new Set()),
    ...outdatedUnits([], [], conditions, new Map()),
    ...runningWithoutFile(conditions),
    ...diskFindings(reports),
    ...clockFindings(reports),
  ];
}
