import test from 'ava';
import listUnits from '../../plugins/list-units/index.js';
import type { SandboxOptions } from '../../src/sandbox/sandbox.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { warnsOfMissingMachines } from './missing-machines.js';
import { names, openAction } from './open-action.js';

const on = (machine: string) => service('/bin/sleep 1d', { MachineID: machine });
const WORLD: SandboxOptions = {
  machines: TWO_MACHINES,
  units: [
    { name: 'db.service', options: on(MACHINE_B) },
    { name: 'everywhere.service', options: service('/bin/sleep 1d', { Global: 'true' }) },
    { name: 'nowhere.service', options: on('c'.repeat(32)) },
    { name: 'stopped.service', options: on(MACHINE_A), desiredState: 'inactive' },
    { name: 'waiting.timer', options: on(MACHINE_A), desiredState: 'loaded' },
    { name: 'web@1.service', options: on(MACHINE_A) },
    { name: 'web@2.service', options: on(MACHINE_B) },
    { name: 'webby.service', options: on(MACHINE_A) },
  ],
};
const ALL = WORLD.units?.map(({ name }) => name) ?? [];

test('list_units lists every unit with every documented key, null where fleet leaves it out', async (t) => {
  const options = [...on('c'.repeat(32)), { section: 'Service', name: 'Environment', value: '' }];
  const { run, description } = await openAction(t, listUnits, {
    machines: TWO_MACHINES,
    units: [
      { name: 'a.service', options: on(MACHINE_A) },
      { name: 'nowhere.service', options },
    ],
  });
  t.like(description, { name: 'list_units', target: 'cluster', effect: 'read', redelivery: 'run-again' });
  t.deepEqual(await run(), [
    {
      name: 'a.service',
      options: on(MACHINE_A),
      desiredState: 'launched',
      currentState: 'launched',
      machineID: MACHINE_A,
    },
    { name: 'nowhere.service', options, desiredState: 'launched', currentState: 'inactive', machineID: null },
  ]);
});

for (const [parameters, expected] of [
  [{}, ALL],
  [{ name: 'db.service' }, ['db.service']],
  [{ name: 'web@*.service' }, ['web@1.service', 'web@2.service']],
  [{ name: 'web@?.service' }, ['web@1.service', 'web@2.service']],
  [{ name: 'web*' }, ['web@1.service', 'web@2.service', 'webby.service']],
  [{ name: '*.timer' }, ['waiting.timer']],
  [{ name: '*' }, ALL],
  [{ name: 'web' }, []],
  [{ name: 'DB.service' }, []],
  [{ desired_state: 'inactive' }, ['stopped.service']],
  [{ desired_state: 'loaded' }, ['waiting.timer']],
  [{ current_state: 'loaded' }, ['waiting.timer']],
  [{ current_state: 'inactive' }, ['everywhere.service', 'nowhere.service', 'stopped.service']],
  [{ current_state: 'inactive', desired_state: 'launched' }, ['everywhere.service', 'nowhere.service']],
  [{ machine_id: MACHINE_B }, ['db.service', 'web@2.service']],
  [{ machine_id: 'd'.repeat(32) }, []],
  [
    { machine_id: MACHINE_A, name: 'web*', desired_state: 'launched', current_state: 'launched' },
    ['web@1.service', 'webby.service'],
  ],
] as const) {
  test(`list_units with ${JSON.stringify(parameters)} lists ${expected.join(', ') || 'nothing'}`, async (t) => {
    const { run } = await openAction(t, listUnits, WORLD);
    t.deepEqual(await names(run(parameters)), [...expected]);
  });
}

test('list_units lists the units of all pages', async (t) => {
  const { run, sandbox } = await openAction(t, listUnits, { ...WORLD, pageSize: 3 });
  const added = sandbox.cluster.addUnits(50);
  t.deepEqual(await names(run()), [...ALL, ...added].toSorted());
  t.deepEqual(await names(run({ name: 'load-*' })), added);
});

test('list_units lists none in an empty cluster', async (t) => {
  const { run } = await openAction(t, listUnits, { units: [] });
  t.deepEqual(await run(), []);
});

for (const parameters of [
  { name: '' },
  { name: 'a/b' },
  { name: 'web@[12].service' },
  { name: 'x'.repeat(257) },
  { name: null },
  { name: 7 },
  { desired_state: 'running' },
  { desired_state: 'Launched' },
  { current_state: '' },
  { machine_id: 'abc' },
  { machine_id: 'A'.repeat(32) },
  { machine_id: '*' },
  { desiredState: 'loaded' },
]) {
  test(`list_units refuses the parameters ${JSON.stringify(parameters).slice(0, 60)}`, async (t) => {
    const { run, sandbox } = await openAction(t, listUnits, WORLD);
    await t.throwsAsync(run(parameters), { code: 'invalid_parameters' });
    t.is(sandbox.cluster.requests.length, 0);
  });
}

test('list_units passes on the error of a cluster that cannot be queried', async (t) => {
  const { run, sandbox } = await openAction(t, listUnits, WORLD);
  sandbox.cluster.fail({ kind: '503' });
  await t.throwsAsync(run(), { code: 'cluster_unhealthy' });
});

test(
  'list_units warns of a cluster that lists fewer machines than discovery names',
  warnsOfMissingMachines,
  listUnits,
);

test('list_units lists only the units that the caller may see, also among those of a pattern', async (t) => {
  const { run } = await openAction(t, listUnits, WORLD);
  const seen = async (units: string[], parameters?: object) => names(run(parameters, { units }));
  t.deepEqual(await seen(['web@*', 'db.service']), ['db.service', 'web@1.service', 'web@2.service']);
  t.deepEqual(await seen(['web@1.service', 'x'], { name: 'web*' }), ['web@1.service']);
  t.deepEqual(await seen([]), []);
});
