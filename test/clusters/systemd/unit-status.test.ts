import test, { type ExecutionContext } from 'ava';
import unitStatus from '../../../plugins/unit-status/index.js';
import { Cluster } from '../../../src/api/cluster.js';
import { Clock, FleetTransport, RemoteShell, UnitControl } from '../../../src/plugin.js';
import { prepareAction } from '../../../src/core/prepare-action.js';
import { systemClock } from '../../../src/lib/clock.js';
import { FIELD_NAMES } from '../../../src/rpc/field-names.js';
import { actionRequest } from '../../support/action-request.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../../support/systemd-machines.js';
import { clusterOf } from './machines-as-clusters.js';

if (await machinesCanRun('the status of units on systemd machines')) {
  let booted: SystemdMachines;
  let first: SystemdMachine;
  let second: SystemdMachine;
  let dead: SystemdMachine;
  test.before(async () => {
    booted = await bootMachines(3);
    const [one, two, three] = booted.machines;
    if (one === undefined || two === undefined || three === undefined) throw new Error('boot more machines');
    [first, second, dead] = [one, two, three];
    await first.run(SET_UP);
    await second.run(`systemctl daemon-reload; usermod --groups= core`);
  });
  test.after.always(async () => booted?.stop());

  /** What the action answers of a cluster of these machines. */
  const statusOf = async (
    t: ExecutionContext,
    unit: string,
    given: object = {},
    machines = [first, second],
  ) => {
    const { transport, shell } = await clusterOf(t, booted, machines);
    const parts = new Map<symbol, unknown>([
      [FleetTransport, transport],
      [RemoteShell, shell],
      [UnitControl, { kindOf: () => 'systemd' }],
      [Clock, systemClock],
    ]);
    const action = prepareAction(unitStatus, (token) => parts.get(token), {
      parametersName: FIELD_NAMES.parameters,
    });
    const cluster = new Cluster('lab');
    const parameters = action.check({ unit_name: unit, ...given });
    const answer = await action.run(actionRequest({ cluster, parameters }));
    return answer as Awaited<ReturnType<typeof unitStatus.handle>>;
  };
  const onFirst = async (t: ExecutionContext, unit: string, given: object = {}) => {
    const { machines } = await statusOf(t, unit, { machine_ids: [first.machine.id], ...given });
    const [machine] = machines;
    if (machine === undefined || machines.length > 1) throw new Error('it is not on one machine');
    return machine;
  };

  test('a unit that runs is described as systemctl does', async (t) => {
    const machine = await onFirst(t, 'ok.service');
    t.like(machine, {
      machine_id: first.machine.id,
      host: first.address,
      load: 'loaded',
      active: 'active',
      sub: 'running',
      restarts: 0,
      result: 'success',
      exit_status: null,
      enabled: 'enabled',
      needs_daemon_reload: true,
      can_reload: true,
      fragment_path: '/etc/systemd/system/ok.service',
      drop_ins: ['/etc/systemd/system/ok.service.d/with space.conf'],
      error: null,
    });
    const show = async (name: string) =>
      (await first.run(`TZ=UTC systemctl show --value --property=${name} -- ok.service`)).trim();
    t.is(String(machine.main_pid), await show('MainPID'));
    t.is(machine.invocation_id, await show('InvocationID'));
    const since = (await show('ActiveEnterTimestamp')).replace(/^\w+ (\S+) (\S+) UTC$/, '$1T$2.000Z');
    t.is(machine.since, since);
    t.regex(machine.log?.at(-1) ?? '', /systemd\[1\]: Started/);
  });

  test('what has failed is described with its exit status, or its signal', async (t) => {
    t.like(await onFirst(t, 'bad.service'), {
      active: 'failed',
      result: 'exit-code',
      exit_status: 7,
      exit_signal: null,
      main_pid: null,
      error: null,
    });
    t.like(await onFirst(t, 'killed.service'), { active: 'failed', result: 'signal', exit_signal: 9 });
    const { log } = await onFirst(t, 'bad.service', { lines: 200 });
    t.true(
      log?.some((line) => line.endsWith(': r\u{fffd}d␇')),
      String(log),
    );
  });

  test('a oneshot that is over and a unit that never ran differ only in the log', async (t) => {
    const past = {
      load: 'loaded',
      active: 'inactive',
      sub: 'dead',
      since: null,
      result: null,
      restarts: null,
    };
    const done = await onFirst(t, 'done.service');
    t.like(done, past);
    t.regex(String(done.log), /done\.service: Deactivated successfully|Finished/);
    t.like(await onFirst(t, 'never.service'), { ...past, log: [], error: null });
  });

  test('a oneshot that remains is described with how it ended', async (t) => {
    t.like(await onFirst(t, 'remains.service'), { active: 'active', sub: 'exited', exit_status: 0 });
  });

  test('a unit whose file is gone runs on, and is found without its machine', async (t) => {
    const { desired_state, machines } = await statusOf(t, 'gone.service');
    t.is(desired_state, null);
    t.deepEqual(
      machines.map(({ machine_id, load, active, fragment_path }) => [
        machine_id,
        load,
        active,
        fragment_path,
      ]),
      [[first.machine.id, 'not-found', 'active', null]],
    );
  });

  test('a masked unit, an instance and a unit of the distribution are found', async (t) => {
    t.like((await statusOf(t, 'masked.service')).machines, [
      { machine_id: first.machine.id, load: 'masked', active: 'inactive', enabled: 'masked' },
    ]);
    const instance = await statusOf(t, 'web@1.service');
    t.is(instance.desired_state, 'loaded');
    t.like(instance.machines[0], { active: 'active', fragment_path: '/etc/systemd/system/web@.service' });
    t.is((await statusOf(t, 'dbus.service', { lines: 0 })).machines.length, 2);
  });

  test('a unit that no machine has is an error', async (t) => {
    await t.throwsAsync(statusOf(t, 'missing.service'), { code: 'unit_not_found' });
  });

  test('a journal that the login may not read is no quiet unit', async (t) => {
    const machine = (await statusOf(t, 'dbus.service', { machine_ids: [second.machine.id] })).machines[0];
    t.like(machine, { active: 'active', error: { code: 'journal_forbidden' } });
  });

  test('a machine that does not answer is shown by its address beside the others', async (t) => {
    await dead.control('kill');
    const { desired_state, machines } = await statusOf(t, 'ok.service', {}, [first, dead]);
    t.is(desired_state, 'launched');
    t.deepEqual(
      machines.map(({ machine_id, host, active, error }) => [machine_id, host, active, error?.code]),
      [
        [first.machine.id, first.address, 'active', undefined],
        [null, dead.address, null, 'host_unreachable'],
      ],
    );
    const only = { machine_ids: [first.machine.id] };
    t.is((await statusOf(t, 'ok.service', only, [first, dead])).machines.length, 1);
    // It may be the one that does not answer.
    await t.throwsAsync(statusOf(t, 'ok.service', { machine_ids: [dead.machine.id] }, [first, dead]), {
      code: 'cluster_incomplete',
    });
    await t.throwsAsync(statusOf(t, 'missing.service', {}, [first, dead]), { code: 'cluster_incomplete' });
  });
}

const SET_UP = `
write() { printf '[Unit]\\nDescription=%s\\n[Service]\\n%s\\n[Install]\\nWantedBy=multi-user.target\\n' "$1" "$2" >/etc/systemd/system/$1; }
sleeps='ExecStart=/bin/sleep infinity'
write ok.service "$sleeps
ExecReload=/bin/true"
write bad.service 'ExecStart=/bin/sh -c "printf \\"r\\\\351d\\\\007\\\\n\\"; sleep 0.1; exit 7"'
write killed.service 'ExecStart=/bin/sh -c "kill -9 $$$$"'
write never.service "$sleeps"
write gone.service "$sleeps"
write web@.service "$sleeps"
write done.service 'Type=oneshot
ExecStart=/bin/true'
write remains.service 'Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true'
ln -s /dev/null /etc/systemd/system/masked.service
mkdir /etc/systemd/system/ok.service.d
printf '[Service]\\nEnvironment=A=1\\n' >'/etc/systemd/system/ok.service.d/with space.conf'
systemctl daemon-reload
systemctl enable --quiet --now ok.service
systemctl start gone.service web@1.service remains.service done.service bad.service killed.service
rm /etc/systemd/system/gone.service
systemctl daemon-reload
echo '# changed' >>/etc/systemd/system/ok.service
while systemctl is-active --quiet bad.service || systemctl is-active --quiet killed.service; do sleep 0.1; done
journalctl --sync
`;
