import test, { type ExecutionContext } from 'ava';
import nodeInfo from '../../plugins/node-info/index.js';
import type { NodeInfo } from '../../plugins/node-info/result.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { systemClock } from '../../src/lib/clock.js';
import { Clock, FleetTransport, RemoteShell } from '../../src/plugin.js';
import { clusterOf } from '../clusters/systemd/machines-as-clusters.js';
import { actionRequest } from '../support/action-request.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../support/systemd-machines.js';

if (await machinesCanRun('node_info on systemd machines')) {
  let booted: SystemdMachines;
  test.before(async () => {
    booted = await bootMachines(3);
  });
  test.after.always(async () => booted?.stop());

  /** The information of machines of one cluster, by their addresses, and how many commands were sent to each. */
  const infoOf = async (
    t: ExecutionContext,
    machines: readonly SystemdMachine[],
    parameters: { nodes?: string[] } = {},
  ) => {
    const { transport, shell, cluster } = await clusterOf(t, booted, machines);
    const commands: string[] = [];
    const counting: RemoteShell = {
      run: async (host, ...rest) => {
        commands.push(host);
        return shell.run(host, ...rest);
      },
    };
    const parts = new Map<symbol, unknown>([
      [RemoteShell, counting],
      [Clock, systemClock],
      [FleetTransport, transport],
    ]);
    const action = prepareAction(nodeInfo, (token) => parts.get(token));
    const deadline = Number.POSITIVE_INFINITY;
    const result = await action.run(
      actionRequest({ parameters: action.check(parameters), cluster, deadline }),
    );
    return { info: result as Record<string, NodeInfo>, commands };
  };

  const taken = (number: number): SystemdMachine => {
    const machine = booted.machines[number];
    if (machine === undefined) throw new Error('boot more machines');
    return machine;
  };

  test('a machine has Podman, the versions of its system, its failed units and the offset of its clock', async (t) => {
    const machine = taken(0);
    const podman = 'Client:       Podman Engine\\nVersion:      4.3.1\\nAPI Version:  4.3.1\\n';
    await machine.installCommand('podman', `printf '${podman}'`);
    const deployments = [
      { version: '40.20240701.3.0', checksum: 'b'.repeat(64), booted: false, staged: true },
      { version: '39.20240101.3.0', checksum: 'a'.repeat(64), booted: true, staged: false },
    ];
    await machine.installCommand(
      'rpm-ostree',
      `[ "$*" = 'status --json' ] || exit 1\necho '${JSON.stringify({ deployments, transaction: null })}'`,
    );
    await machine.run(
      `printf 'ID=fedora\\nVERSION_ID=40\\nPRETTY_NAME="Fedora \\\\"CoreOS\\\\" 40"\\n' >/etc/os-release.new
mv /etc/os-release.new /etc/os-release
for name in broken two; do printf '[Unit]\\nDescription=Breaks at once\\n[Service]\\nExecStart=/bin/false\\n' >/etc/systemd/system/$name.service; done
systemctl reset-failed
systemctl start broken.service two.service
until systemctl is-failed --quiet broken.service && systemctl is-failed --quiet two.service; do sleep 0.05; done`,
    );
    const before = Date.now();
    const { info, commands } = await infoOf(t, [machine]);
    const tookMs = Date.now() - before;
    t.deepEqual(Object.keys(info), [machine.address]);
    const found = info[machine.address];
    t.like(found, {
      os: { id: 'fedora', version: '40', name: 'Fedora "CoreOS" 40' },
      docker: null,
      podman: { version: '4.3.1', answers: true },
      os_image: {
        updated_by: 'rpm-ostree',
        booted_version: '39.20240101.3.0',
        staged: true,
        staged_version: '40.20240701.3.0',
      },
      failed_units: { count: 2, names: ['broken.service', 'two.service'] },
      errors: [],
    });
    t.is(found?.coreos_version, await machine.run('cat /etc/os-release'));
    t.is(typeof found?.docker_disk_space_percent, 'number');
    // Its clock is that of this computer.
    const { offset_ms: offset = Infinity, uncertainty_ms: uncertainty = 0 } = found?.clock ?? {};
    t.true(Math.abs(offset) <= uncertainty, `${offset} ± ${uncertainty}`);
    t.true(uncertainty <= tookMs / 2 + 2, `${uncertainty} of ${tookMs}`);
    t.deepEqual(commands, [machine.address, machine.address]);
  });

  test('a machine with update_engine has the version that waits for a reboot, and Podman that does not answer is told', async (t) => {
    const machine = taken(1);
    await machine.installCommand(
      'update_engine_client',
      `[ "$*" = -status ] || exit 1
echo '[0101/000000:INFO:update_engine_client.cc(247)] Querying Update Engine status...' >&2
printf 'LAST_CHECKED_TIME=1483651389\\nPROGRESS=0.000000\\nCURRENT_OP=UPDATE_STATUS_UPDATED_NEED_REBOOT\\nNEW_VERSION=1298.1.0\\nNEW_SIZE=267797159\\n'`,
    );
    await machine.installCommand('podman', "echo 'Error: no such runtime: crun' >&2; exit 125");
    await machine.run('rm -r /var/lib/docker');
    const { info } = await infoOf(t, [machine]);
    const found = info[machine.address];
    t.like(found, {
      docker_disk_space_percent: null,
      disk: null,
      os: { id: 'debian' },
      podman: { version: null, answers: false },
      os_image: { updated_by: 'update_engine', staged: true, staged_version: '1298.1.0' },
    });
    t.is(found?.os_image?.booted_version, found?.os?.version);
    t.deepEqual(found?.errors, [
      `podman: podman on ${machine.address} failed with exit status 125: Error: no such runtime: crun`,
    ]);
  });

  test('a machine of a cluster of systemd hosts that does not answer is in the result, and no other one may be named', async (t) => {
    const [there, gone] = [taken(1), taken(2)];
    await gone.control('kill');
    const { info } = await infoOf(t, [there, gone]);
    t.deepEqual(Object.keys(info), [there.address, gone.address]);
    t.is(info[there.address]?.os?.id, 'debian');
    t.regex(String(info[gone.address]?.errors), /^host_unreachable: /);
    const named = (await infoOf(t, [there], { nodes: [there.address, gone.address] })).info;
    t.is(named[there.address]?.os?.id, 'debian');
    t.regex(String(named[gone.address]?.errors), /^invalid_parameters: not a machine of this cluster/);
  });
}
