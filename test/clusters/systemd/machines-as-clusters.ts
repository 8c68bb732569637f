import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { SystemdUnitControl } from '../../../src/clusters/systemd/systemd-unit-control.js';
import { systemClock } from '../../../src/lib/clock.js';
import { SystemdUnitFiles } from '../../../src/clusters/systemd/systemd-unit-files.js';
import { SystemdTransport } from '../../../src/clusters/systemd/systemd-transport.js';
import type { ConnectionPolicy } from '../../../src/network/connection-policy.js';
import { SshShell } from '../../../src/ssh/ssh-shell.js';
import { anyAddress, keepingLog } from '../../ssh/shell-for.js';
import type { SystemdMachine, SystemdMachines } from '../../support/systemd-machines.js';

/** A cluster of these machines, over SSH as `core`. */
export async function clusterOf(
  t: Pick<ExecutionContext, 'teardown'>,
  { env }: Pick<SystemdMachines, 'env'>,
  machines: readonly (Pick<SystemdMachine, 'address'> & { metadata?: Record<string, string> })[],
  { sudo = false, policy = anyAddress }: { sudo?: boolean; policy?: ConnectionPolicy } = {},
): Promise<{
  transport: SystemdTransport;
  control: SystemdUnitControl;
  files: SystemdUnitFiles;
  shell: SshShell;
  cluster: Cluster;
}> {
  const shell = new SshShell({
    user: env.SSH_USER,
    port: Number(env.SSH_PORT),
    privateKey: await readFile(env.SSH_KEY_FILE),
    knownHostsFile: env.SSH_KNOWN_HOSTS,
    hostKeys: 'strict',
    sudo,
    connectTimeoutMs: 5_000,
    handshakeTimeoutMs: 60_000,
    policy,
    log: keepingLog(),
  });
  t.teardown(async () => shell.close());
  const entries = machines.map(({ address: host, metadata = {} }) => ({ host, metadata }));
  const machinesOf = () => entries;
  const control = new SystemdUnitControl({ shell, clock: systemClock, machinesOf });
  return {
    shell,
    control,
    files: new SystemdUnitFiles({ shell, machinesOf }),
    cluster: new Cluster('lab'),
    transport: new SystemdTransport({ shell, machinesOf, units: control, clock: systemClock }),
  };
}
