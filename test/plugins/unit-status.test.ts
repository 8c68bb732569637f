import test, { type ExecutionContext } from 'ava';
import unitStatus from '../../plugins/unit-status/index.js';
import { openAction, type SandboxOptions } from '../../src/testing.js';
import { ManualClock } from '../support/manual-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';

const on = (machine: string) => service('/bin/web', { MachineID: machine });
const UNITS: SandboxOptions['units'] = [
  { name: 'web.service', options: on(MACHINE_A) },
  { name: 'bad.service', options: on(MACHINE_A), behaviour: 'fails-at-start' },
  { name: 'everywhere.service', options: service('/bin/web', { Global: 'true' }) },
  { name: 'loaded.service', options: on(MACHINE_B), desiredState: 'loaded' },
  { name: 'stopped.service', options: on(MACHINE_A), desiredState: 'inactive' },
  { name: 'nowhere.service', options: on('c'.repeat(32)) },
  { name: 'web@.service', options: on(MACHINE_A), desiredState: 'inactive' },
];

const open = async (t: ExecutionContext, options: SandboxOptions = {}) => {
  const opened = await openAction(unitStatus, {
    clock: new ManualClock(),
    machines: TWO_MACHINES,
    units: UNITS,
    ...options,
  });
  t.teardown(opened.stop);
  return opened;
};

test('a unit that runs is shown with the machine, since when, and its last lines', async (t) => {
  const { run, sandbox } = await open(t);
  const { unit, desired_state, machines } = await run({ unit_name: 'web.service', lines: 3 });
  t.deepEqual([unit, desired_state, machines.length], ['web.service', 'launched', 1]);
  const [machine] = machines;
  t.like(machine, {
    machine_id: MACHINE_A,
    host: '127.0.0.1',
    load: 'loaded',
    active: 'active',
    sub: 'running',
    result: 'success',
    exit_status: null,
    // Of a later systemd than that of CoreOS.
    invocation_id: null,
    restarts: null,
    memory_bytes: null,
    fragment_path: '/run/fleet/units/web.service',
    error: null,
  });
  t.regex(machine?.since ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/);
  t.is(machine?.log?.length, 3);
  for (const line of machine?.log ?? []) t.regex(line, /web\[\d+\]: /);
  t.true(machine?.log?.every((line) => line.includes(`web[${machine.main_pid}]`)));
  t.is(sandbox.ssh.commands.length, 1);
});

test('a unit that has failed is shown with its exit status and the end of its log', async (t) => {
  const { run } = await open(t);
  const { machines } = await run({ unit_name: 'bad.service' });
  t.like(machines[0], { active: 'failed', result: 'exit-code', exit_status: 1, main_pid: null, error: null });
  t.regex(machines[0]?.log?.at(-1) ?? '', /bad\.service: Failed with result 'exit-code'/);
});

test('a global unit is shown on each machine, in the order of their ids', async (t) => {
  const { run } = await open(t);
  const { machines } = await run({ unit_name: 'everywhere.service' });
  t.deepEqual(
    machines.map(({ machine_id, host, active }) => [machine_id, host, active]),
    [
      [MACHINE_A, '127.0.0.1', 'active'],
      [MACHINE_B, '127.0.0.2', 'active'],
    ],
  );
});

test('a machine that does not answer is shown beside the others, with what fleet knows of it', async (t) => {
  const { run, sandbox } = await open(t);
  sandbox.ssh.fail({ kind: 'exit', status: 1, stderr: 'sh: broken\n', machine: MACHINE_B });
  const { machines } = await run({ unit_name: 'everywhere.service' });
  t.like(machines[0], { machine_id: MACHINE_A, active: 'active', error: null });
  t.like(machines[1], {
    machine_id: MACHINE_B,
    load: 'loaded',
    active: 'active',
    sub: 'running',
    main_pid: null,
    since: null,
    drop_ins: null,
    log: null,
    error: { code: 'command_failed' },
  });
});

test('a unit without a state is asked for on the machine that it is scheduled to', async (t) => {
  const { run, sandbox } = await open(t);
  // What fleet lists for some time after an outage of etcd.
  sandbox.cluster.recover({ machines: 2, states: 0, lasts: 60_000 });
  const { machines } = await run({ unit_name: 'web.service' });
  t.like(machines[0], { machine_id: MACHINE_A, active: 'active', error: null });
});

test('only the named machines are asked, also those where fleet does not have the unit', async (t) => {
  const { run } = await open(t);
  const { machines } = await run({ unit_name: 'web.service', machine_ids: [MACHINE_B] });
  t.is(machines.length, 1);
  t.like(machines[0], {
    machine_id: MACHINE_B,
    load: 'not-found',
    active: 'inactive',
    result: null,
    fragment_path: null,
    log: [],
    error: null,
  });
});

test('without lines the journal is not read', async (t) => {
  const { run, sandbox } = await open(t);
  const { machines } = await run({ unit_name: 'web.service', lines: 0 });
  t.deepEqual(machines[0]?.log, []);
  t.is(sandbox.ssh.commands[0]?.argv[6], '0');
});

test('a unit that is loaded and has never run has no past', async (t) => {
  const { run } = await open(t);
  const { desired_state, machines } = await run({ unit_name: 'loaded.service' });
  t.is(desired_state, 'loaded');
  t.like(machines[0], { active: 'inactive', since: null, result: null, main_pid: null });
});

for (const [unit, desired] of [
  ['stopped.service', 'inactive'],
  ['nowhere.service', 'launched'],
] as const) {
  test(`${unit}, which is on no machine, is shown with its desired state`, async (t) => {
    const { run, sandbox } = await open(t);
    t.deepEqual(await run({ unit_name: unit }), { unit, desired_state: desired, machines: [] });
    t.is(sandbox.ssh.commands.length, 0);
  });
}

test('a restart is seen', async (t) => {
  const { run, sandbox } = await open(t, { delays: { change: 0, report: 0, linger: 0 } });
  const sinceOf = async () => (await run({ unit_name: 'web.service' })).machines[0]?.since ?? '';
  const before = await sinceOf();
  sandbox.cluster.setUnit('web.service', { desiredState: 'loaded' });
  sandbox.cluster.setUnit('web.service', { desiredState: 'launched' });
  t.true((await sinceOf()) > before);
});

test('a unit that the cluster does not have is an error, and no machine is asked', async (t) => {
  const { run, sandbox } = await open(t);
  await t.throwsAsync(run({ unit_name: 'typo.service' }), { code: 'unit_not_found' });
  t.is(sandbox.ssh.commands.length, 0);
  // A machine may have it all the same.
  await t.throwsAsync(run({ unit_name: 'typo.service', machine_ids: [MACHINE_A] }), {
    code: 'unit_not_found',
  });
  t.is(sandbox.ssh.commands.length, 1);
});

test('a machine that the cluster does not have is an error; beside others it is only shown', async (t) => {
  const { run } = await open(t);
  const stranger = 'd'.repeat(32);
  await t.throwsAsync(run({ unit_name: 'web.service', machine_ids: [stranger] }), {
    code: 'machine_not_found',
  });
  const { machines } = await run({ unit_name: 'web.service', machine_ids: [stranger, MACHINE_A] });
  t.deepEqual(
    machines.map(({ machine_id, host, active, error }) => [machine_id, host, active, error?.code]),
    [
      [MACHINE_A, '127.0.0.1', 'active', undefined],
      [stranger, null, null, 'machine_not_found'],
    ],
  );
});

test("the sandbox's plain hosts answer as well", async (t) => {
  const { run, sandbox } = await open(t);
  const onHosts = async (unit: string) => run({ unit_name: unit }, { cluster: sandbox.systemd.name });
  const { desired_state, machines } = await onHosts('tickets.service');
  t.is(desired_state, 'launched');
  t.deepEqual(
    machines.map(({ host, active, enabled, restarts, result, error }) => ({
      host,
      active,
      enabled,
      restarts,
      result,
      error,
    })),
    ['127.0.0.11', '127.0.0.12'].map((host) => ({
      host,
      active: 'active',
      enabled: 'enabled',
      restarts: 0,
      result: 'success',
      error: null,
    })),
  );
  t.regex(machines[0]?.invocation_id ?? '', /^[0-9a-f]{32}$/);
  t.like((await onHosts('payments-import.service')).machines[0], { active: 'failed', result: 'exit-code' });
  await t.throwsAsync(onHosts('typo.service'), { code: 'unit_not_found' });
});

for (const parameters of [
  {},
  { unit_name: 'web@.service' },
  { unit_name: 'web' },
  { unit_name: 'web.service; id' },
  { unit_name: 'web.service', lines: 201 },
  { unit_name: 'web.service', lines: -1 },
  { unit_name: 'web.service', machine_ids: [] },
  { unit_name: 'web.service', machine_ids: ['x'] },
]) {
  test(`${JSON.stringify(parameters)} is refused`, async (t) => {
    const { run, sandbox } = await open(t);
    await t.throwsAsync(run(parameters), { code: 'invalid_parameters' });
    t.is(sandbox.cluster.requests.length, 0);
  });
}
