import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type { ChangeRequest, UnitChange, UnitOrder } from '../../../src/api/unit-control.js';
import { Cluster } from '../../../src/api/cluster.js';
import { SystemdUnitControl } from '../../../src/clusters/systemd/systemd-unit-control.js';
import { systemClock } from '../../../src/lib/clock.js';
import { actionRequest } from '../../support/action-request.js';
import { eventually, HUNG_MS } from '../../support/eventually.js';
import { machinePool, machinesCanRun } from '../../support/systemd-machines.js';
import { clusterOf } from './machines-as-clusters.js';

if (await machinesCanRun('changes of units on systemd machines')) {
  const { booted, takeMachine } = machinePool(test, 6);

  /** Machines on which units can be changed; each start of a unit of `write` adds a line to a file. */
  const world = async (t: ExecutionContext, count = 1) => {
    const machines = Array.from({ length: count }, takeMachine);
    const { control, cluster } = await clusterOf(t, booted(), machines, { sudo: true });
    const [machine] = machines;
    if (machine === undefined) throw new Error('no machine');
    const requestOf = (given: Partial<ChangeRequest> = {}): ChangeRequest => ({
      ...actionRequest({ cluster }),
      deadline: systemClock.now() + HUNG_MS,
      key: randomUUID(),
      ...given,
    });
    return {
      machine,
      machines,
      requestOf,
      /** Writes unit files, without a word to systemd. */
      write: async (units: Readonly<Record<string, string>>) => {
        const files = Object.entries(units).map(
          ([name, body]) =>
            `cat >/etc/systemd/system/${name} <<'END'\n${body.startsWith('[') ? body : serviceOf(name, body)}\nEND\n`,
        );
        for (const each of machines) await each.run(`${files.join('')} systemctl daemon-reload`);
      },
      starts: async (name: string, on = machine) =>
        Number(await on.run(`cat /var/starts-${name} 2>/dev/null | wc -l`)),
      change: async (order: UnitOrder, given: Partial<ChangeRequest> = {}) =>
        control.change(requestOf(given), order),
      /** What a change came to: what was done, or the code of the error. */
      outcome: async (order: UnitOrder, given: Partial<ChangeRequest> = {}): Promise<string> => {
        try {
          const changes = await control.change(requestOf(given), order);
          return changes.map(({ did }) => did).join();
        } catch (error) {
          return (error as { code: string }).code;
        }
      },
    };
  };

  const serviceOf = (name: string, body: string) =>
    `[Service]
ExecStartPre=/bin/sh -c 'echo start >>/var/starts-${name}'
${body}
[Install]
WantedBy=multi-user.target`;

  const SLEEPS = 'ExecStart=/bin/sleep infinity';

  test('a restart says what really happened, whatever the exit status of systemctl', async (t) => {
    const { write, outcome, machine } = await world(t);
    await write({
      'ok.service': SLEEPS,
      'exits.service': 'ExecStart=/bin/false',
      'program.service': 'ExecStart=/no/such',
      'silent.service': `Type=notify\nTimeoutStartSec=2\n${SLEEPS}`,
      'job.service': 'Type=oneshot\nExecStart=/bin/true',
      'badjob.service': 'Type=oneshot\nExecStart=/bin/false',
      'kept.service': 'Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true',
      'condition.service': `[Unit]\nConditionPathExists=/no/such\n[Service]\n${SLEEPS}`,
      'conditionjob.service':
        '[Unit]\nConditionPathExists=/no/such\n[Service]\nType=oneshot\nExecStart=/bin/true',
      'assert.service': `[Unit]\nAssertPathExists=/no/such\n[Service]\n${SLEEPS}`,
      'badsetting.service': '[Service]\nType=oneshot\nRestart=always\nExecStart=/bin/true',
      'badheader.service': '[Service\nExecStart=/bin/true',
      'needs.service': `[Unit]\nRequires=exits2.service\nAfter=exits2.service\n[Service]\n${SLEEPS}`,
      'exits2.service': '[Service]\nType=oneshot\nExecStart=/bin/false',
      'stubborn.service': `TimeoutStopSec=2\nExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'`,
      'loop.service':
        '[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/false',
    });
    await machine.run(`ln -s /dev/null /etc/systemd/system/masked.service
      systemctl daemon-reload
      systemctl start ok kept stubborn; systemctl start loop || true`);
    const rows: Record<string, string> = {
      'ok.service': 'restarted',
      'exits.service': 'unit_failed',
      'program.service': 'unit_failed',
      'silent.service': 'unit_not_started',
      'job.service': 'started',
      'badjob.service': 'unit_failed',
      'kept.service': 'restarted',
      'condition.service': 'unit_condition_failed',
      'conditionjob.service': 'unit_condition_failed',
      'assert.service': 'unit_condition_failed',
      'badsetting.service': 'unit_file_invalid',
      'badheader.service': 'unit_file_invalid',
      'needs.service': 'unit_dependency_failed',
      'stubborn.service': 'restarted',
      'loop.service': 'unit_flaps',
      'masked.service': 'unit_masked',
      'missing.service': 'unit_not_found',
    };
    const got = await Promise.all(
      Object.keys(rows).map(async (unit) => [unit, await outcome({ unit, verb: 'restart' })] as const),
    );
    t.deepEqual(Object.fromEntries(got), rows);
  });

  test('each verb is made once, and says so when there is nothing to do', async (t) => {
    const { write, outcome, change, starts, machine } = await world(t);
    await write({
      'ok.service': `ExecReload=/bin/true\n${SLEEPS}`,
      'plain.service': `[Service]\n${SLEEPS}`,
      'bad.service': 'ExecStart=/bin/false',
      'also.service': `[Service]\n${SLEEPS}\n[Install]\nAlso=ok.service`,
    });
    const unit = 'ok.service';
    t.is(await outcome({ unit, verb: 'reload' }), 'unit_not_active');
    t.is(await outcome({ unit, verb: 'stop' }), 'nothing');
    t.is(await outcome({ unit, verb: 'start' }), 'started');
    t.is(await outcome({ unit, verb: 'start' }), 'nothing');
    t.is(await starts(unit), 1);
    t.is(await outcome({ unit, verb: 'reload' }), 'reloaded');
    t.is(await outcome({ unit, verb: 'enable' }), 'enabled');
    t.is(await outcome({ unit, verb: 'enable' }), 'nothing');
    t.is(await outcome({ unit, verb: 'disable' }), 'disabled');
    t.is(await outcome({ unit, verb: 'disable' }), 'nothing');
    t.is(await outcome({ unit: 'also.service', verb: 'enable' }), 'enabled');
    t.is(await outcome({ unit: 'also.service', verb: 'enable' }), 'nothing');
    t.is(await outcome({ unit: 'also.service', verb: 'disable' }), 'disabled');
    t.is(await outcome({ unit, verb: 'stop' }), 'stopped');
    t.is(await outcome({ unit, verb: 'stop' }), 'nothing');
    t.is(await outcome({ unit: 'missing.service', verb: 'stop' }), 'unit_not_found');
    t.is(await outcome({ unit: 'plain.service', verb: 'enable' }), 'unit_not_installable');
    t.is(await outcome({ unit: 'plain.service', verb: 'start' }), 'started');
    t.is(await outcome({ unit: 'plain.service', verb: 'reload' }), 'unit_cannot_reload');
    t.is(await outcome({ unit: 'bad.service', verb: 'reset-failed' }), 'nothing');
    t.is(await outcome({ unit: 'bad.service', verb: 'start' }), 'unit_failed');
    t.is(await outcome({ unit: 'bad.service', verb: 'reset-failed' }), 'reset');
    t.is(await outcome({ unit, verb: 'unload' }), 'unsupported_by_cluster');
    t.is(await outcome({ unit, verb: 'start', settleMs: 2 * HUNG_MS }), 'invalid_parameters');
    t.is(await outcome({ unit, verb: 'start', settleMs: 3_000, timeoutMs: 1_000 }), 'started');
    t.is(await outcome({ unit, verb: 'stop' }), 'stopped');
    // systemd allows five starts in 10 s, and stops a healthy service at the sixth.
    for (let times = 0; times < 7; times++)
      t.regex(await outcome({ unit, verb: 'restart', settleMs: 0 }), /^(re)?started$/);
    const [proof] = await change({ unit, verb: 'restart' });
    t.like(proof, {
      machine_id: machine.machine.id,
      host: machine.address,
      did: 'restarted',
      before: { load: 'loaded', active: 'active', sub: 'running' },
      after: { active: 'active', sub: 'running', result: 'success', restarts: 0, enabled: 'disabled' },
      error: null,
    });
    t.not(proof?.before?.invocation_id, proof?.after?.invocation_id);
    t.true((proof?.took_ms ?? 0) > 0);
    const warnings: string[] = [];
    const warn = (text: string) => void warnings.push(text);
    await change({ unit, verb: 'restart', settleMs: 0 }, { warn });
    t.deepEqual(warnings, []);
    await machine.run(`echo '# newer' >>/etc/systemd/system/${unit}`);
    await change({ unit, verb: 'restart', settleMs: 0 }, { warn });
    t.is(warnings.length, 1);
    t.regex(warnings[0] ?? '', new RegExp(`^${unit} has a newer file .* on ${machine.address}:`));
  });

  test('a machine that is at work responds, so that its cluster is not taken for one that hangs', async (t) => {
    const { machine, write, requestOf, machines } = await world(t);
    const { shell } = await clusterOf(t, booted(), machines, { sudo: true });
    await write({ 'ok.service': SLEEPS });
    let responses = 0;
    const cluster = new Cluster('lab', () => (responses += 1));
    const machinesOf = () => [{ host: machine.address, metadata: {} }];
    const own = new SystemdUnitControl({ shell, clock: systemClock, machinesOf });
    await own.change(requestOf({ cluster }), { unit: 'ok.service', verb: 'start', settleMs: 3_000 });
    // One is for the list of its units.
    t.true(responses > 2, String(responses));
  });

  test('a change that is delivered again is not made again, and is answered with what it came to', async (t) => {
    const { write, change, starts, machine, outcome } = await world(t);
    const unit = 'ok.service';
    await write({ [unit]: `ExecStartPre=/bin/sleep 1\n${SLEEPS}` });
    const key = randomUUID();
    const order: UnitOrder = { unit, verb: 'restart', settleMs: 1_000 };
    // The first delivery and a copy of it, at the same time.
    const [first, again] = await Promise.all([
      change(order, { key }),
      change(order, { key, repeated: true }),
    ]);
    t.deepEqual(first, again);
    t.is(await starts(unit), 1);
    t.deepEqual(await change(order, { key, repeated: true }), first);
    t.is(await starts(unit), 1);
    t.log('a new request with the same key is another one');
    await change(order, { key });
    t.is(await starts(unit), 2);
    t.log('over a reboot');
    await machine.reboot();
    const [after] = (await change(order, { key, repeated: true })) as [UnitChange];
    t.like(after, { did: 'restarted', error: null });
    t.is(await starts(unit), 2);
    t.is(await outcome(order, { key: undefined, repeated: true }), 'outcome_unknown');
    t.is(await starts(unit), 2);
  });

  test('a machine that is lost in the middle of a change has made it once, and says what it came to', async (t) => {
    const { write, change, starts, machine, outcome } = await world(t);
    const unit = 'slow.service';
    await write({ [unit]: `ExecStartPre=/bin/sleep 3\n${SLEEPS}` });
    const order: UnitOrder = { unit, verb: 'restart', settleMs: 1_000 };
    const begins = async (count: number) =>
      eventually('the change begins', async () => (await starts(unit)) === count);
    t.log('cut off');
    const cut = change(order);
    await begins(1);
    await machine.control('cut');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await machine.control('join');
    t.like((await cut)[0], { did: 'started', error: null });
    t.is(await starts(unit), 1);
    t.log('frozen');
    const frozen = change(order);
    await begins(2);
    await machine.control('freeze');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await machine.control('thaw');
    t.like((await frozen)[0], { did: 'restarted', error: null });
    t.is(await starts(unit), 2);
    t.log('rebooted');
    const key = randomUUID();
    const rebooted = outcome(order, { key });
    await begins(3);
    await machine.reboot();
    t.is(await rebooted, 'outcome_unknown');
    t.is(await starts(unit), 3);
    t.is(await outcome(order, { key, repeated: true }), 'outcome_unknown');
    t.is(await starts(unit), 3);
    t.log('without power, and back');
    const killed = outcome(order);
    await begins(4);
    await machine.control('kill');
    await machine.control('boot');
    t.is(await killed, 'outcome_unknown');
    t.is(await starts(unit), 4);
  });
}
