import { ActionError } from '../api/action-error.js';
import { Cluster } from '../api/cluster.js';
import type { EtcdResolver } from '../api/etcd-resolver.js';
import type { FleetTransport, Machine } from '../api/fleet-transport.js';
import { counted, type Finding, listed, ok, runCheck, warned } from './finding.js';

/** A valid etcd token that no cluster has. */
const UNKNOWN_CLUSTER = 'fleet-manager-doctor';

/**
 * Checks the discovery service.
 * @param token the cluster to find; undefined: it is enough that the discovery service responds
 */
export async function checkDiscovery(
  resolver: EtcdResolver,
  token: string | undefined,
  { discoveryUrl, limitMs }: { discoveryUrl: string; limitMs: number },
): Promise<Finding> {
  return runCheck(
    limitMs,
    (error) => discoveryRemedy(error, discoveryUrl),
    async (signal) => {
      try {
        const endpoints = await resolver.endpoints(new Cluster(token ?? UNKNOWN_CLUSTER), { signal });
        return ok(
          `the cluster has ${counted(endpoints.length, 'host')}: ${listed(endpoints.map(({ host }) => host))}`,
        );
      } catch (error) {
        // The service works when it reports that the token is unknown.
        const works = token === undefined && codeOf(error) === 'cluster_not_found';
        if (!works) throw error;
        return ok(`${new URL(discoveryUrl).host} responds; to check a cluster, add --cluster TOKEN`);
      }
    },
  );
}

/**
 * Checks the fleet API of a cluster.
 * @returns also the addresses of its machines; undefined: they are not known
 */
export async function checkFleet(
  transport: () => FleetTransport,
  token: string,
  { fleetPort, limitMs }: { fleetPort: number; limitMs: number },
): Promise<{ finding: Finding; machines: readonly string[] | undefined }> {
  let addresses: string[] | undefined;
  const finding = await runCheck(
    limitMs,
    (error) => fleetRemedy(error, fleetPort),
    async (signal) => {
      const target = new Cluster(token);
      const problems: string[] = [];
      const warn = (problem: string) => problems.push(problem);
      const machines = await transport().machines(target, { signal, warn });
      addresses = [...new Set(machines.flatMap(({ primaryIP }) => primaryIP ?? []))];
      const missing = await transport().incompleteness(target, { signal });
      if (missing !== undefined) warn(missing);
      problems.push(...machines.filter(({ primaryIP }) => primaryIP === null).map(noAddress));
      const responds = `the fleet API responds: the cluster has ${counted(machines.length, 'machine')}`;
      return problems.length === 0
        ? ok(responds)
        : warned([
            responds,
            ...problems,
            '-> check that fleet runs on all machines of the cluster (systemctl status fleet), and has a public_ip',
          ]);
    },
  );
  return { finding, machines: addresses };
}

function noAddress({ id }: Machine): string {
  return `fleet lists no address of the machine ${id}, so no action can log in to it`;
}

function discoveryRemedy(error: unknown, discoveryUrl: string): string {
  const { host } = new URL(discoveryUrl);
  switch (codeOf(error)) {
    case 'cluster_not_found':
      return `check the token, and that it was created at ETCD_DISCOVERY_URL (${host}); or add the cluster to CLUSTERS_FILE`;
    case 'cluster_empty':
      return 'check the token, and that the machines use it; or add the cluster to CLUSTERS_FILE';
    default:
      return `check ETCD_DISCOVERY_URL (${host}), and that it can be reached from here`;
  }
}

function fleetRemedy(error: unknown, fleetPort: number): string {
  if (codeOf(error) === 'forbidden') return 'add the hosts of the cluster to ALLOWED_HOSTS';
  return `check FLEET_API_PORT (${fleetPort}), and that the fleet API listens on it and can be reached from here`;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof ActionError ? error.code : undefined;
}
