import test, { type ExecutionContext } from 'ava';
import type { Finding } from '../../plugins/check-cluster/finding.js';
import checkCluster from '../../plugins/check-cluster/index.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { systemClock } from '../../src/lib/clock.js';
import { Clock, FleetTransport, RemoteShell, UnitControl } from '../../src/plugin.js';
import { clusterOf } from '../clusters/systemd/machines-as-clusters.js';
import { actionRequest } from '../support/action-request.js';
import { eventually } from '../support/eventually.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../support/systemd-machines.js';

if (await machinesCanRun('check_cluster on systemd machines')) {
  let booted: SystemdMachines;
  test.before(async () => {
    booted = await bootMachines(4);
  });
  test.after.always(async () => booted?.stop());

  const taken = (number: number): SystemdMachine => {
    const machine = booted.machines[number];
    if (machine === undefined) throw new Error('boot more machines');
    return machine;
  };

  /** What is found on a cluster of these machines, and which hosts were asked, one for each round trip. */
  const check = async (t: ExecutionContext, machines: readonly SystemdMachine[]) => {
    const { transport, shell, cluster } = await clusterOf(t, booted, machines);
    const asked: string[] = [];
    const counting: RemoteShell = {
      run: async (host, ...rest) => {
        asked.push(host);
        return shell.run(host, ...rest);
      },
    };
    const parts = new Map<symbol, unknown>([
      [FleetTransport, transport],
      [RemoteShell, counting],
      [UnitControl, { kindOf: () => 'systemd' }],
      [Clock, systemClock],
    ]);
    const action = prepareAction(checkCluster, (token) => parts.get(token));
    const deadline = Number.POSITIVE_INFINITY;
    const result = await action.run(actionRequest({ parameters: action.check({}), cluster, deadline }));
    return { findings: result as Finding[], asked };
  };

  const kinds = (findings: readonly Finding[]) =>
    findings.map(({ kind, subject, severity }) => `${severity} ${kind} ${subject}`);

  /** A script that writes a service with these lines in its section. */
  const write = (name: string, ...lines: string[]) =>
    `printf '%s\\n' '[Service]' ${lines.map((line) => `'${line}'`).join(' ')} '[Install]' 'WantedBy=multi-user.target' >/etc/systemd/system/${name}\n`;

  /** A machine as it is after the boot has failed units of its own: a container lacks what they need. */
  const RESET = 'timeout 20 systemctl is-system-running --wait >/dev/null; systemctl reset-failed\n';

  test('a healthy machine has no findings, whatever its units did by design', async (t) => {
    const machine = taken(0);
    await machine.run(
      `${RESET}${write('runs.service', 'ExecStart=/bin/sleep infinity')}
${write('once.service', 'Type=oneshot', 'ExecStart=/bin/true')}
${write('manual.service', 'ExecStart=/bin/sleep infinity')}
printf '%s\\n' '[Unit]' 'ConditionPathExists=/no/such' '[Service]' 'ExecStart=/bin/sleep infinity' '[Install]' 'WantedBy=multi-user.target' >/etc/systemd/system/skipped.service
printf '%s\\n' '[Service]' 'ExecStart=/bin/sleep infinity' >/etc/systemd/system/many@.service
systemctl daemon-reload
systemctl enable --quiet --now runs.service once.service skipped.service
systemctl start many@1.service`,
    );
    const { findings, asked } = await check(t, [machine]);
    t.deepEqual(findings, []);
    t.deepEqual(asked, [machine.address]);
  });

  test('units that fail, flap, are down, have an old file or none are found, each with what systemd says', async (t) => {
    const machine = taken(1);
    await machine.run(
      `${RESET}${write('breaks.service', 'ExecStart=/bin/false')}
${write('flaps.service', 'ExecStart=/bin/sleep 0.4', 'Restart=always', 'RestartSec=50ms')}
${write('waits.service', 'ExecStart=/bin/false', 'Restart=always', 'RestartSec=1h')}
${write('down.service', 'ExecStart=/bin/sleep infinity')}
${write('old.service', 'ExecStart=/bin/sleep infinity')}
${write('ghost.service', 'ExecStart=/bin/sleep infinity')}
mkdir -p /etc/systemd/system/flaps.service.d
printf '[Unit]\\nStartLimitIntervalSec=0\\n' >/etc/systemd/system/flaps.service.d/limit.conf
systemctl daemon-reload
systemctl enable --quiet down.service
systemctl start breaks.service flaps.service waits.service old.service ghost.service down.service
systemctl stop down.service
until systemctl is-failed --quiet breaks.service; do sleep 0.05; done
until [ "$(systemctl show -P NRestarts flaps.service)" != 0 ]; do sleep 0.05; done
until [ "$(systemctl show -P SubState waits.service)" = auto-restart ]; do sleep 0.05; done
rm /etc/systemd/system/ghost.service
systemctl daemon-reload
printf '# changed\\n' >>/etc/systemd/system/old.service
touch -d '+1 minute' /etc/systemd/system/old.service`,
    );
    // A machine that gets no processor may restart nothing between the two looks.
    const { findings } = await eventually('the unit flaps between two looks', async () => {
      const checked = await check(t, [machine]);
      return checked.findings.some(({ subject }) => subject === 'flaps.service') ? checked : undefined;
    });
    t.deepEqual(kinds(findings), [
      'error unit_failed breaks.service',
      'error unit_flaps flaps.service',
      'error unit_flaps waits.service',
      'warning unit_not_active down.service',
      'warning unit_outdated old.service',
      'warning unit_left_behind ghost.service',
    ]);
    const [breaks, flaps, waits, down, old, ghost] = findings.map(
      ({ evidence }) => (evidence.machines as Record<string, unknown>[])[0],
    );
    const at = { machine_id: machine.machine.id, host: machine.address };
    t.deepEqual(breaks, { ...at, load: 'loaded', active: 'failed', sub: 'failed' });
    t.true(Number(flaps?.restarts_later) > Number(flaps?.restarts));
    t.like(waits, { ...at, active: 'activating', sub: 'auto-restart' });
    t.deepEqual(down, { ...at, load: 'loaded', active: 'inactive', sub: 'dead' });
    t.deepEqual(old, { ...at, reason: 'not_read', hash: null });
    t.deepEqual(ghost, { ...at, left: 'process', active: 'active' });
    t.false(JSON.stringify(findings).includes('fleet '), 'a cluster without fleet');
  });

  test('a full disk, a clock that is off and a host that is gone are found, and cost only themselves', async (t) => {
    const [machine, gone] = [taken(2), taken(3)];
    await machine.run(
      `mkdir -p /var/lib/containers
mount -t tmpfs -o size=1m,nr_inodes=20 tmpfs /var/lib/containers
head -c 1000k /dev/zero >/var/lib/containers/full
for number in $(seq 1 30); do : >/var/lib/containers/$number || break; done 2>/dev/null`,
    );
    await machine.installCommand(
      'date',
      `[ "$*" = +%s.%N ] || exec /bin/date "$@"\necho "$(($(/bin/date +%s) + 120)).000000000"`,
    );
    await gone.control('kill');
    const { findings, asked } = await check(t, [machine, gone]);
    t.deepEqual(asked.toSorted(), [machine.address, gone.address].toSorted());
    t.deepEqual(kinds(findings), [
      `error host_not_answering ${gone.address}`,
      `error disk_nearly_full ${machine.address}`,
      `error disk_nearly_full ${machine.address}`,
      `warning clock_off ${machine.address}`,
    ]);
    const [silent, space, inodes, clock] = findings;
    t.like(silent?.evidence, { host: gone.address, code: 'host_unreachable' });
    t.like(space?.evidence, { mount: '/var/lib/containers', of: 'space', size_kb: 1_024 });
    t.like(inodes?.evidence, { mount: '/var/lib/containers', of: 'inodes', inodes: 20, used_percent: 100 });
    const offset = Number(clock?.evidence.offset_ms);
    t.true(Math.abs(offset - 120_000) < 30_000, `${offset}`);
    t.false(JSON.stringify(findings).includes('fleet '));
  });
}
