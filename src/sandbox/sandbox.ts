import type { Clock } from '../lib/clock.js';
import type { Machine } from '../api/fleet-transport.js';
import { systemClock } from '../lib/clock.js';
import type { ClusterDelays, SandboxUnit } from './cluster.js';
import { respondAsDiscovery, discoveryFailure } from './discovery.js';
import { EXAMPLE_CONDITIONS, EXAMPLE_MACHINES, EXAMPLE_UNITS } from './example-cluster.js';
import { fleetMachine } from './fleet-machine.js';
import { LoopbackService } from './loopback-service.js';
import { PAGE_SIZE } from './paging.js';
import { SandboxCluster } from './sandbox-cluster.js';
import type { CommandMachine, SshServer } from './ssh-server.js';
import type { SystemdCluster } from './systemd/systemd-cluster.js';

/** The contents of a cluster, and its members in discovery. */
interface SandboxClusterOptions {
  /** The example's three machines by default. */
  machines?: readonly Machine[];
  /** The example's units by default. */
  units?: readonly SandboxUnit[];
  /** The values that discovery lists, in any form; by default `NAME=URL` for each of the cluster's addresses. */
  members?: readonly string[];
  /** The number of entries on a page of fleet's API; 100 by default. */
  pageSize?: number;
}

export interface SandboxOptions extends SandboxClusterOptions {
  /** The token of the first cluster; `sandbox` by default. */
  token?: string;
  clock?: Clock;
  /** The addresses of the first cluster's fleet API; by default 127.0.0.1, the only one that every system has. */
  fleetHosts?: readonly string[];
  /** The port of every cluster's fleet API; by default, or with 0, a free port. */
  fleetPort?: number;
  /**
   * Whether the initial machines of the first cluster accept commands over SSH, and a cluster of plain systemd hosts is there; false by
   * default.
   */
  ssh?: boolean;
  /** In milliseconds; `DEFAULT_DELAYS` by default. */
  delays?: Partial<SandboxDelays>;
}

interface SandboxDelays extends ClusterDelays {
  /** How long each response of a fleet API takes. */
  answer: number;
}

const DEFAULT_DELAYS: SandboxDelays = { change: 150, report: 50, linger: 150, answer: 0 };

export type SandboxSsh = Pick<
  SshServer,
  'port' | 'hosts' | 'user' | 'privateKeyFile' | 'knownHostsFile' | 'commands' | 'fail' | 'on'
>;

export type SandboxSystemd = Omit<SystemdCluster, 'hosts'>;

/**
 * A running sandbox: one discovery service, simulated clusters whose fleet APIs share one port, and a cluster of plain systemd hosts.
 */
export interface Sandbox {
  /** The first cluster. */
  readonly cluster: SandboxCluster;
  /** The first cluster's token. */
  readonly token: string;
  /** The discovery service; its `requests` and `fail` work as those of a cluster. */
  readonly discovery: Pick<LoopbackService, 'requests' | 'fail'>;
  /** For `ETCD_DISCOVERY_URL`: `GET discoveryUrl/TOKEN`. */
  readonly discoveryUrl: string;
  /** For `FLEET_API_PORT`. */
  readonly fleetPort: number;
  /** SSH access to the machines, the commands they received, answers to commands, and faults; undefined unless `ssh` is set. */
  readonly ssh: SandboxSsh | undefined;
  /** The cluster of plain systemd hosts, which only SSH reaches; undefined unless `ssh` is set. */
  readonly systemd: SandboxSystemd | undefined;
  /**
   * Adds a cluster. fleet's API does not say which cluster it belongs to, so each cluster needs its own addresses.
   * @param options.hosts loopback addresses, such as `['127.0.0.21']`; by default none when `members` are given
   * (discovery then lists only those), else a free one. Systems other than Linux only have 127.0.0.1.
   */
  addCluster(
    token: string,
    options?: SandboxClusterOptions & { hosts?: readonly string[] },
  ): Promise<SandboxCluster>;
  /** Closes everything immediately, including requests in flight. */
  stop(): Promise<void>;
}

/**
 * Starts a simulated CoreOS cluster on loopback: etcd discovery, fleet's API and optionally SSH, in this process and in
 * memory. Only the SSH keys are in files, which are removed when the sandbox stops or the process ends.
 *
 * Stop it at the end; until then its sockets keep the process alive.
 */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { token = 'sandbox', clock = systemClock, fleetHosts = ['127.0.0.1'], fleetPort = 0 } = options;
  const delays = { ...DEFAULT_DELAYS, ...options.delays };
  const clusters = new Map<string, SandboxCluster>();
  const discovery = new LoopbackService({
    reply: (request) => respondAsDiscovery((name) => clusters.get(name)?.members, request),
    failure: discoveryFailure,
    clock,
    responseDelay: 0,
  });
  const stop = () => {
    discovery.stop();
    for (const cluster of clusters.values()) cluster.stop();
  };
  const add = async (
    name: string,
    hosts: readonly string[],
    port: number,
    contents: SandboxClusterOptions,
  ) => {
    if (clusters.has(name)) throw new TypeError(`the sandbox already has a cluster '${name}'`);
    const cluster = newCluster(name, hosts, contents, { clock, delays });
    clusters.set(name, cluster);
    try {
      return { cluster, port: await cluster.listen(port) };
    } catch (error) {
      clusters.delete(name);
      throw error;
    }
  };

  const discoveryPort = await discovery.listen(['127.0.0.1'], 0);
  try {
    const first = await add(token, fleetHosts, fleetPort, options);
    const { ssh, systemd } =
      options.ssh === true ? await startSsh(first.cluster, { clock, stopMs: delays.report }) : NO_SSH;
    let hostCount = 0;
    return {
      cluster: first.cluster,
      token,
      discovery,
      discoveryUrl: `http://127.0.0.1:${discoveryPort}`,
      fleetPort: first.port,
      ssh,
      systemd,
      addCluster: async (name, { hosts, ...contents } = {}) => {
        const own = hosts ?? (contents.members === undefined ? [`127.0.1.${++hostCount}`] : []);
        const { cluster } = await add(name, own, first.port, contents);
        return cluster;
      },
      stop: async () => {
        stop();
        await ssh?.stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

const NO_SSH = { ssh: undefined, systemd: undefined };

async function startSsh(
  cluster: SandboxCluster,
  { clock, stopMs }: { clock: Clock; stopMs: number },
): Promise<{ ssh: SshServer; systemd: SystemdCluster }> {
  // Loaded only when needed: loading ssh2 takes a large part of a second.
  const [{ SshServer }, { SystemdCluster }, { EXAMPLE_HOST_CONDITIONS, EXAMPLE_HOST_UNITS, EXAMPLE_HOSTS }] =
    await Promise.all([
      import('./ssh-server.js'),
      import('./systemd/systemd-cluster.js'),
      import('./systemd/example-hosts.js'),
    ]);
  const systemd = new SystemdCluster({
    name: 'sandbox-systemd',
    machines: EXAMPLE_HOSTS,
    units: EXAMPLE_HOST_UNITS,
    conditions: EXAMPLE_HOST_CONDITIONS,
    clock,
    stopMs,
  });
  const machines: CommandMachine[] = [
    ...cluster.machines.map((machine) =>
      fleetMachine(machine, {
        source: cluster,
        systemd: cluster.systemdOf(machine.id),
        clock,
        condition: EXAMPLE_CONDITIONS.get(machine.id),
      }),
    ),
    ...systemd.hosts,
  ];
  return { ssh: await SshServer.start({ machines, clock }), systemd };
}

function newCluster(
  token: string,
  hosts: readonly string[],
  options: SandboxClusterOptions,
  { clock, delays: { answer, ...delays } }: { clock: Clock; delays: SandboxDelays },
): SandboxCluster {
  return new SandboxCluster({
    token,
    hosts,
    members: options.members ?? hosts.map((host, index) => `node${index + 1}=http://${urlHost(host)}:2380`),
    machines: options.machines ?? EXAMPLE_MACHINES,
    units: options.units ?? EXAMPLE_UNITS,
    pageSize: options.pageSize ?? PAGE_SIZE,
    clock,
    delays,
    responseDelay: answer,
  });
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
