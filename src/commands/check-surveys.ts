import { Cluster } from '../api/cluster.js';
import type { FleetTransport } from '../api/fleet-transport.js';
import type { UnreachableHost, WarningFacts } from '../api/warn.js';
import { counted, type Finding, ok, runCheck, warned } from './finding.js';

/** Reads the machines and units of a cluster of plain systemd hosts, as the actions do. */
export async function checkSurveys(
  transport: FleetTransport,
  name: string,
  { hosts, limitMs }: { hosts: number; limitMs: number },
): Promise<Finding> {
  return runCheck(
    limitMs,
    () => `see machines above; ${REMEDY}`,
    async (signal) => {
      const unreachable: UnreachableHost[] = [];
      const warn = (_text: string, facts: WarningFacts = {}) =>
        void unreachable.push(...(facts.unreachable ?? []));
      const cluster = new Cluster(name);
      const [machines, units] = await Promise.all([
        transport.machines(cluster, { signal, warn }),
        transport.units(cluster, { signal }).catch(() => undefined),
      ]);
      const has = `${machines.length} of ${counted(hosts, 'machine')} told what they have`;
      const problems = [
        ...new Set(
          unreachable.map(({ host, reason }) => (reason.includes(host) ? reason : `${host}: ${reason}`)),
        ),
      ];
      if (problems.length > 0) problems.push(`-> see machines above; ${REMEDY}`);
      const same = sameIds(machines);
      if (same.length > 0) problems.push(...same, `-> ${SAME_REMEDY}`);
      if (problems.length > 0) return warned([has, ...problems]);
      return ok(`${has}: ${counted(units?.length ?? 0, 'unit')} of the operator's`);
    },
  );
}

const REMEDY = 'a machine needs systemctl, find, xargs and GNU grep, and a machine id in /etc/machine-id';
const SAME_REMEDY =
  'give each machine an id of its own: remove /etc/machine-id there, run systemd-machine-id-setup, and restart it';

/** What copies of one disk image have in common. */
function sameIds(machines: readonly { id: string; primaryIP: string | null }[]): string[] {
  const hosts = new Map<string, string[]>();
  for (const { id, primaryIP } of machines) hosts.set(id, [...(hosts.get(id) ?? []), primaryIP ?? '']);
  return [...hosts.values()]
    .filter((each) => each.length > 1)
    .map((each) => `${each.join(' and ')} have the same machine id, so actions cannot tell them apart`);
}
