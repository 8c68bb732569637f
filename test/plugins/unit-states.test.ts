import test from 'ava';
import listUnitStates from '../../plugins/unit-states/index.js';
import type { Sandbox, SandboxOptions } from '../../src/sandbox/sandbox.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { openAction } from './open-action.js';

const on = (machine: string) => service('/bin/sleep 1d', { MachineID: machine });
const WORLD: SandboxOptions = {
  machines: TWO_MACHINES,
  units: [
    { name: 'db.service', options: on(MACHINE_B) },
    { name: 'everywhere.service', options: service('/bin/sleep 1d', { Global: 'true' }) },
    { name: 'failed.service', options: on(MACHINE_A), behaviour: 'fails-at-start' },
    { name: 'nowhere.service', options: on('c'.repeat(32)) },
    { name: 'web@1.service', options: on(MACHINE_A) },
  ],
};
const ROWS = [
  ['db.service', MACHINE_B],
  ['everywhere.service', MACHINE_A],
  ['everywhere.service', MACHINE_B],
  ['failed.service', MACHINE_A],
  ['web@1.service', MACHINE_A],
] as const;

const rows = async (answer: Promise<unknown>) =>
  ((await answer) as { name: string; machineID: string }[]).map(({ name, machineID }) => [name, machineID]);

test('list_unit_states lists every state with every documented key', async (t) => {
  const { run, description, sandbox } = await openAction(t, listUnitStates, WORLD);
  t.like(description, {
    name: 'list_unit_states',
    target: 'cluster',
    effect: 'read',
    redelivery: 'run-again',
  });
  t.deepEqual(await run(), sandbox.cluster.states());
  const [failed] = (await run({ unit_name: 'failed.service' })) as { hash: string }[];
  t.regex(failed?.hash ?? '', /^[0-9a-f]{40}$/);
  t.deepEqual(failed as unknown, {
    name: 'failed.service',
    hash: failed?.hash,
    machineID: MACHINE_A,
    systemdLoadState: 'loaded',
    systemdActiveState: 'failed',
    systemdSubState: 'failed',
  });
});

test('list_unit_states has null where fleet leaves a key out', async (t) => {
  const { run, sandbox } = await openAction(t, listUnitStates, WORLD);
  const nothing = {
    hash: null,
    machineID: null,
    systemdLoadState: null,
    systemdActiveState: null,
    systemdSubState: null,
  };
  sandbox.cluster.setState('web@1.service', nothing);
  t.deepEqual(await run({ unit_name: 'web@1.service' }), [{ name: 'web@1.service', ...nothing }]);
});

for (const [parameters, expected] of [
  [{}, ROWS],
  [{ unit_name: 'db.service' }, ROWS.slice(0, 1)],
  [{ unit_name: 'everywhere.service' }, ROWS.slice(1, 3)],
  [{ unit_name: 'web@1.service' }, ROWS.slice(4)],
  [{ unit_name: 'nowhere.service' }, []],
  [{ unit_name: 'not-there.service' }, []],
  [{ machine_id: MACHINE_B }, [ROWS[0], ROWS[2]]],
  [{ machine_id: 'd'.repeat(32) }, []],
  [{ unit_name: 'everywhere.service', machine_id: MACHINE_B }, [ROWS[2]]],
  [{ unit_name: 'db.service', machine_id: MACHINE_A }, []],
] as const) {
  test(`list_unit_states with ${JSON.stringify(parameters)} lists ${expected.length}`, async (t) => {
    const { run } = await openAction(t, listUnitStates, WORLD);
    t.deepEqual(
      await rows(run(parameters)),
      expected.map((row) => [...row]),
    );
  });
}

test('list_unit_states never requests the state of one unit by its path, which would end the connection', async (t) => {
  const { run, sandbox } = await openAction(t, listUnitStates, WORLD);
  await run({ unit_name: 'web@1.service' });
  const paths = sandbox.cluster.requests.map(({ path }) => path);
  t.true(paths.includes('/fleet/v1/state?unitName=web%401.service'));
  t.deepEqual(
    paths.filter((path) => path.startsWith('/fleet/v1/state/')),
    [],
  );
});

for (const parameters of [
  { unit_name: '' },
  { unit_name: 'db' },
  { unit_name: 'web*.service' },
  { unit_name: '../machines' },
  { unit_name: null },
  { machine_id: 'abc' },
  { machine_id: 7 },
  { name: 'db.service' },
]) {
  test(`list_unit_states refuses the parameters ${JSON.stringify(parameters)}`, async (t) => {
    const { run, sandbox } = await openAction(t, listUnitStates, WORLD);
    await t.throwsAsync(run(parameters), { code: 'invalid_parameters' });
    t.is(sandbox.cluster.requests.length, 0);
  });
}

test('list_unit_states warns of launched units without a state, and of machines that are not listed', async (t) => {
  const fleetHosts = ['127.0.0.1', '127.0.0.2'];
  const clock = new ManualClock();
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, { ...WORLD, fleetHosts, clock });
  await run();
  t.deepEqual(warnings, []);
  clock.advance(2_000);
  sandbox.cluster.recover({ machines: 1, states: 1, lasts: 24_000 });
  t.is((await rows(run())).length, 1);
  t.regex(
    warnings.join(),
    /3 launched units have no state at the moment \(everywhere\.service, failed\.service, web@1\.service\)/,
  );
  t.regex(warnings.join(), /fleet lists 1 machine, without 127\.0\.0\.2/);
});

test('list_unit_states with a filter warns only of the units that were asked for', async (t) => {
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, WORLD);
  sandbox.cluster.recover({ machines: 2, states: 3, lasts: 24_000 });
  await run({ machine_id: MACHINE_B });
  t.deepEqual(warnings, []);
  await run({ unit_name: 'web@1.service' });
  t.regex(warnings.join(), /^1 launched unit has no state at the moment \(web@1\.service\)/);
});

/** The sandbox of an action, in which fleet shows no states of these machines. */
function hideStatesOn({ cluster }: Sandbox, ...machines: readonly string[]): void {
  const states = cluster.listedStates.bind(cluster);
  cluster.listedStates = () => states().filter(({ machineID }) => !machines.includes(machineID ?? ''));
}

test('list_unit_states warns of a global unit without a state on machines that should run it', async (t) => {
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, WORLD);
  const everywhere = { unit_name: 'everywhere.service' };
  const nowhere = /^1 launched unit has no state at the moment \(everywhere\.service\)/;
  hideStatesOn(sandbox, MACHINE_B);
  await run({ ...everywhere, machine_id: MACHINE_A });
  t.deepEqual(warnings, []);
  t.is((await rows(run(everywhere))).length, 1);
  const onB = `1 launched unit has no state at the moment (everywhere.service on ${MACHINE_B})`;
  t.true(warnings[0]?.startsWith(onB), warnings[0]);
  t.deepEqual(await run({ ...everywhere, machine_id: MACHINE_B }), []);
  t.regex(warnings[1] ?? '', nowhere);
  hideStatesOn(sandbox, MACHINE_A);
  t.deepEqual(await run(everywhere), []);
  t.regex(warnings[2] ?? '', nowhere);
});

test('list_unit_states does not expect a global unit on machines that do not meet its requirements', async (t) => {
  const options = service('/bin/sleep 1d', { Global: 'true', MachineMetadata: 'role=web' });
  const { run, warnings, sandbox } = await openAction(t, listUnitStates, {
    ...WORLD,
    units: [{ name: 'web.service', options }],
  });
  t.is((await rows(run())).length, sandbox.cluster.states().length);
  t.true(sandbox.cluster.states().length < TWO_MACHINES.length);
  t.deepEqual(warnings, []);
});

test('list_unit_states warns when the machines of a global unit cannot be read', async (t) => {
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, WORLD);
  sandbox.cluster.fail({ kind: 'garbage', path: '/fleet/v1/machines' });
  t.is((await rows(run({ unit_name: 'everywhere.service' }))).length, 2);
  t.regex(
    warnings.join(),
    /^Not all units and machines could be read, so it is not known whether states are missing/,
  );
});

test('list_unit_states warns when the units cannot be read in time, and lists the states all the same', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, { ...WORLD, clock });
  sandbox.cluster.fail({ kind: 'hang', path: '/fleet/v1/units' });
  const states = run();
  await eventually('the units are asked for', () =>
    sandbox.cluster.requests.some(({ path }) => path === '/fleet/v1/units'),
  );
  clock.advance(5_000);
  t.deepEqual(await states, sandbox.cluster.states());
  t.regex(warnings.join(), /not known whether states are missing: no complete answer within 5 s/);
});

test('list_unit_states warns when the units cannot be read, and lists the states all the same', async (t) => {
  const { run, sandbox, warnings } = await openAction(t, listUnitStates, WORLD);
  sandbox.cluster.fail({ kind: 'garbage', path: '/fleet/v1/units' });
  const wanted = [{}, { unit_name: 'web@1.service' }];
  for (const parameters of wanted) t.true((await rows(run(parameters))).length > 0);
  t.is(warnings.length, wanted.length);
  for (const warning of warnings)
    t.regex(warning, /not known whether states are missing: .*127\.0\.0\.1:\d+: HTTP 200/);
});

test('list_unit_states that is stopped while it reads the units gives no result', async (t) => {
  const { run, sandbox } = await openAction(t, listUnitStates, WORLD);
  sandbox.cluster.fail({ kind: 'hang', path: '/fleet/v1/units' });
  const stop = new AbortController();
  const states = run({}, { signal: stop.signal });
  await eventually('the units are asked for', () =>
    sandbox.cluster.requests.some(({ path }) => path === '/fleet/v1/units'),
  );
  stop.abort();
  await t.throwsAsync(states, { code: 'cancelled' });
});

test('list_unit_states passes on the error of a cluster that cannot be queried', async (t) => {
  const { run, sandbox } = await openAction(t, listUnitStates, WORLD);
  sandbox.cluster.members = [];
  await t.throwsAsync(run(), { code: 'cluster_empty' });
});

test('list_unit_states lists and warns of only the units that the caller may see', async (t) => {
  const { run, warnings, sandbox } = await openAction(t, listUnitStates, WORLD);
  const list = sandbox.cluster.listedStates.bind(sandbox.cluster);
  sandbox.cluster.listedStates = (...args) =>
    list(...args).filter(({ name }) => name !== 'db.service' && name !== 'web@1.service');
  const seen = await rows(run({}, { units: ['web@*', 'everywhere.service'] }));
  t.deepEqual(seen, [
    ['everywhere.service', MACHINE_A],
    ['everywhere.service', MACHINE_B],
  ]);
  t.is(warnings.length, 1);
  t.regex(warnings.join(), /^1 launched unit has no state at the moment \(web@1\.service\)/);
});
