import { ActionError } from '../api/action-error.js';
import { Cluster } from '../api/cluster.js';
import type { FleetTransport, Machine } from '../api/fleet-transport.js';
import { isHostAddress } from '../api/grammar.js';
import { counted, type Finding, listed, ok, runCheck, warned } from './finding.js';

/** A valid etcd token that no cluster has. */
export const UNKNOWN_CLUSTER = 'fleet-manager-doctor';

/** Finds the hosts of a cluster; `ignored` are the members of discovery that are not used, because they have no valid host. */
export interface HostLookup {
  hosts(
    cluster: Cluster,
    options: { signal: AbortSignal },
  ): Promise<{ endpoints: readonly URL[]; ignored: readonly string[]; moreIgnored: number }>;
}

/**
 * Checks the discovery service.
 * @param token the cluster to find; undefined: it is enough that the discovery service responds
 */
export async function checkDiscovery(
  resolver: HostLookup,
  token: string | undefined,
  { discoveryUrl, limitMs }: { discoveryUrl: string; limitMs: number },
): Promise<Finding> {
  return runCheck(
    limitMs,
    (error) => discoveryRemedy(error, discoveryUrl),
    async (signal) => {
      try {
        const { endpoints, ignored, moreIgnored } = await resolver.hosts(
          new Cluster(token ?? UNKNOWN_CLUSTER),
          {
            signal,
          },
        );
        const hosts = `the cluster has ${counted(endpoints.length, 'host')}: ${listed(endpoints.map(({ host }) => host))}`;
        return ignored.length + moreIgnored === 0
          ? ok(hosts)
          : warned([hosts, ...ignoredLines(ignored, moreIgnored)]);
      } catch (error) {
        // The service works when it reports that the token is unknown.
        const works = token === undefined && codeOf(error) === 'cluster_not_found';
        if (!works) throw error;
        return ok(`${new URL(discoveryUrl).host} responds; to check a cluster, add --cluster TOKEN`);
      }
    },
  );
}

function ignoredLines(members: readonly string[], more: number): string[] {
  return [
    `discovery has ${counted(members.length + more, 'member')} without a valid host, not used: ${listed(members, more)}`,
    '-> correct the address with which that machine registers (the peer URL of its etcd)',
  ];
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
      addresses = [...new Set(machines.flatMap((machine) => addressOf(machine) ?? []))];
      const missing = await transport().incompleteness(target, { signal });
      if (missing !== undefined) warn(missing);
      problems.push(...machines.filter((machine) => addressOf(machine) === undefined).map(noAddress));
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

/** The remedies of later checks contain the address in command lines, so it must be one. */
function addressOf({ primaryIP }: Machine): string | undefined {
  return primaryIP !== null && isHostAddress(primaryIP) ? primaryIP : undefined;
}

function noAddress({ id }: Machine): string {
  return `fleet lists no valid address of the machine ${id}, so no action can log in to it`;
}

function discoveryRemedy(error: unknown, discoveryUrl: string): string {
  const { host } = new URL(discoveryUrl);
  switch (codeOf(error)) {
    case 'cluster_not_found':
      return `check the token, and that it was created at ETCD_DISCOVERY_URL (${host}); or add the cluster to CLUSTERS_FILE`;
    case 'cluster_empty':
      return 'check the token, and that the machines use it; or add the cluster to CLUSTERS_FILE';
    case 'cluster_answer_invalid':
      return `check that ETCD_DISCOVERY_URL (${host}) is a discovery service, and the members that it has for the token`;
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
