import test from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import type { RemoteShell } from '../../../src/api/remote-shell.js';
import { SystemdTransport } from '../../../src/clusters/systemd/systemd-transport.js';
import { HostPolicy } from '../../../src/network/connection-policy.js';
import { systemClock } from '../../../src/lib/clock.js';
import { notAborted } from '../../ssh/shell-for.js';
import { bootMachines, machinesCanRun, type SystemdMachines } from '../../support/systemd-machines.js';
import { clusterOf } from './machines-as-clusters.js';

const { signal } = notAborted();

if (await machinesCanRun('clusters of systemd machines')) {
  let booted: SystemdMachines;
  test.before(async () => {
    booted = await bootMachines(4);
  });
  test.after.always(async () => booted?.stop());

  /** A service that sleeps, in the operator's folder. */
  const write = (name: string, more = '') =>
    `cat >/etc/systemd/system/${name} <<'END'
[Unit]
Description=A unit of the operator
[Service]
ExecStart=/bin/sleep \\
  infinity
${more}
[Install]
WantedBy=multi-user.target
END
`;

  test('the units of the operator are listed, with their files and states, and those of the system are not', async (t) => {
    const [first, second] = booted.machines;
    if (first === undefined || second === undefined) throw new Error('boot more machines');
    const { transport, cluster } = await clusterOf(t, booted, [
      { ...first, metadata: { role: 'web' } },
      second,
    ]);
    await first.run(
      `${write('ok.service')}${write('off.service')}${write('web@.service', 'Environment=A="%i"')}
       ${write('broken.service').replace('/bin/sleep', '/no/such')}
       ln -s ok.service /etc/systemd/system/alias.service
       ln -s /dev/null /etc/systemd/system/masked.service
       : >/etc/systemd/system/empty.service
       mkdir -p /opt/units && cp /etc/systemd/system/off.service /opt/units/linked.service
       systemctl link /opt/units/linked.service
       mkdir -p /usr/local/lib/systemd/system-generators /etc/containers/systemd
       cat >/usr/local/lib/systemd/system-generators/quadlet <<'END'
#!/bin/sh
printf '[Unit]\\nSourcePath=/etc/containers/systemd/box.container\\n[Service]\\nExecStart=/bin/sleep infinity\\n' >$1/box.service
printf '[Unit]\\nSourcePath=/etc/fstab\\n[Service]\\nExecStart=/bin/sleep infinity\\n' >$1/other.service
END
       chmod 755 /usr/local/lib/systemd/system-generators/quadlet
       systemctl daemon-reload
       systemctl enable --quiet --now ok.service web@1.service
       systemctl start web@two.service box.service
       systemctl start broken.service || true
       systemd-run --quiet --unit=made sleep infinity`,
    );
    await second.run(`${write('ok.service')} systemctl daemon-reload`);
    const units = await transport.units(cluster, { signal });
    t.deepEqual(
      units.map(({ name, desiredState, currentState, machineID }) => [
        name,
        desiredState,
        currentState,
        machineID === null ? 'both' : machineID === first.machine.id ? 'first' : 'second',
      ]),
      [
        ['box.service', 'launched', 'launched', 'first'],
        ['broken.service', 'loaded', 'loaded', 'first'],
        ['linked.service', 'loaded', 'loaded', 'first'],
        ['made.service', 'launched', 'launched', 'first'],
        ['off.service', 'loaded', 'loaded', 'first'],
        ['ok.service', 'launched', 'launched', 'both'],
        ['web@.service', 'loaded', 'loaded', 'first'],
        ['web@1.service', 'launched', 'launched', 'first'],
        ['web@two.service', 'loaded', 'launched', 'first'],
      ],
    );
    t.deepEqual(units.find(({ name }) => name === 'ok.service')?.options, [
      { section: 'Unit', name: 'Description', value: 'A unit of the operator' },
      { section: 'Service', name: 'ExecStart', value: '/bin/sleep  infinity' },
      { section: 'Install', name: 'WantedBy', value: 'multi-user.target' },
    ]);
    const states = await transport.unitStates(cluster, { signal });
    const of = (wanted: string) =>
      states
        .filter(({ name }) => name === wanted)
        .map((each) => [each.systemdLoadState, each.systemdActiveState, each.systemdSubState].join());
    t.deepEqual(of('ok.service').toSorted(), ['loaded,active,running', 'loaded,inactive,dead']);
    t.deepEqual(of('broken.service'), ['loaded,failed,failed']);
    t.is(new Set(states.filter(({ name }) => name === 'ok.service').map(({ hash }) => hash)).size, 1);
    const ofAll = await transport.units(cluster, { signal, all: true });
    const journald = ofAll.find(({ name }) => name === 'systemd-journald.service');
    t.like(journald, { currentState: 'launched', machineID: null });
    t.true(units.every(({ name }) => ofAll.some((each) => each.name === name)));
    t.true(ofAll.every(({ name }) => name !== 'alias.service'));
    const statesOfAll = await transport.unitStates(cluster, {
      signal,
      all: true,
      unitName: 'systemd-journald.service',
    });
    t.is(statesOfAll.length, 2);
    t.like(statesOfAll[0], { hash: null, systemdActiveState: 'active' });
    t.like(await transport.machines(cluster, { signal }), [
      { id: first.machine.id, primaryIP: first.address, metadata: { role: 'web' } },
      { id: second.machine.id, primaryIP: second.address, metadata: {} },
    ]);
  });

  test('a machine that does not answer is named beside what the others have', async (t) => {
    const [, , third, fourth] = booted.machines;
    if (third === undefined || fourth === undefined) throw new Error('boot more machines');
    const { transport, cluster } = await clusterOf(t, booted, [third, fourth]);
    await fourth.control('kill');
    const warnings: string[] = [];
    const facts: unknown[] = [];
    const warn = (text: string, more: unknown) => {
      warnings.push(text);
      facts.push(more);
    };
    await third.run(`${write('ok.service')} systemctl daemon-reload`);
    const machines = await transport.machines(cluster, { signal, warn });
    const unreachable = [{ host: fourth.address, code: 'host_unreachable' }];
    t.like(facts, [{ unreachable }]);
    // The same request is told so again, without another survey.
    t.is(await transport.incompleteness(cluster, { warn }), warnings[0]);
    t.deepEqual(facts[1], facts[0]);
    t.is(await transport.incompleteness(new Cluster('lab'), {}), undefined);
    // What is on another machine is known all the same.
    t.like(await transport.unit(cluster, 'ok.service', { signal }), { machineID: third.machine.id });
    await t.throwsAsync(transport.unit(cluster, 'gone.service', { signal }), { code: 'cluster_incomplete' });
    t.deepEqual(
      machines.map(({ id }) => id),
      [third.machine.id],
    );
    t.regex(String(warnings[0]), new RegExp(`^1 of 2 machines did not answer.*${fourth.address}`));
    const error = await t.throwsAsync(transport.units(cluster, { signal }), { code: 'cluster_incomplete' });
    t.like(error, { details: { unreachable } });
    await third.control('kill');
    await t.throwsAsync(transport.units(cluster, { signal, warn: () => {} }), {
      code: 'cluster_unreachable',
    });
  });

  test('lists that a request asks for at once cost one round trip a machine', async (t) => {
    const [first] = booted.machines;
    if (first === undefined) throw new Error('boot more machines');
    const { shell, control, cluster } = await clusterOf(t, booted, [first]);
    let runs = 0;
    const counting: RemoteShell = {
      run: async (...given) => {
        runs++;
        return shell.run(...given);
      },
    };
    const transport = new SystemdTransport({
      shell: counting,
      machinesOf: () => [{ host: first.address, metadata: {} }],
      units: control,
      clock: systemClock,
    });
    await Promise.all([
      transport.machines(cluster, { signal }),
      transport.unitStates(cluster, { signal }),
      transport.unit(cluster, 'ok.service', { signal }),
    ]);
    t.is(runs, 1);
    await transport.machines(cluster, { signal });
    t.is(runs, 2);
  });

  test('where the service may not connect, it says so, and not that a machine does not answer', async (t) => {
    const [first] = booted.machines;
    if (first === undefined) throw new Error('boot more machines');
    const forbidden = { ...first, address: '127.0.0.1' };
    const policy = new HostPolicy(['10.64.0.0/10']);
    const { transport, cluster } = await clusterOf(t, booted, [first, forbidden], { policy });
    const error = await t.throwsAsync(transport.machines(cluster, { signal }), {
      code: 'cluster_incomplete',
    });
    t.like(error, { details: { unreachable: [{ host: '127.0.0.1', code: 'forbidden' }] } });
    t.regex(error.message, /127\.0\.0\.1 is not allowed.*ALLOWED_HOSTS/);
    const none = await clusterOf(t, booted, [forbidden], { policy });
    await t.throwsAsync(none.transport.machines(cluster, { signal, warn: () => {} }), { code: 'forbidden' });
  });
}
