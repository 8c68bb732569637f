import test from 'ava';
import listMachines from '../../plugins/list-machines/index.js';
import { MACHINE_A, MACHINE_B } from '../support/open-sandbox.js';
import { warnsOfMissingMachines } from './missing-machines.js';
import { openAction } from './open-action.js';

const A = { id: MACHINE_A, primaryIP: '10.0.0.1', metadata: { role: 'web', region: 'north' } };
const B = { id: MACHINE_B, primaryIP: '10.0.0.2', metadata: { role: 'data', region: 'north' } };
const BARE = { id: 'c'.repeat(32), primaryIP: null, metadata: {} };
const machines = [A, B, BARE];

test('list_machines lists every machine with every documented key, null where fleet leaves it out', async (t) => {
  const { run, description } = await openAction(t, listMachines, { machines });
  t.like(description, { name: 'list_machines', target: 'cluster', effect: 'read', redelivery: 'run-again' });
  t.deepEqual(await run(), machines);
  t.deepEqual(await run({}), machines);
});

for (const [metadata, expected] of [
  [{}, machines],
  [{ region: 'north' }, [A, B]],
  [{ region: 'north', role: 'data' }, [B]],
  [{ region: 'south' }, []],
  [{ Region: 'north' }, []],
  [{ region: '' }, []],
  [{ constructor: 'Object' }, []],
] as const) {
  test(`list_machines with the metadata ${JSON.stringify(metadata)} lists ${expected.length}`, async (t) => {
    const { run } = await openAction(t, listMachines, { machines });
    t.deepEqual(await run({ metadata }), expected);
  });
}

test('metadata with the name __proto__ is ordinary metadata', async (t) => {
  const odd = { ...BARE, metadata: Object.fromEntries([['__proto__', 'x']]) };
  const { run } = await openAction(t, listMachines, { machines: [A, odd] });
  t.deepEqual(await run(JSON.parse('{"metadata": {"__proto__": "x"}}')), [odd]);
});

test('list_machines lists none in an empty cluster', async (t) => {
  const { run } = await openAction(t, listMachines, { machines: [] });
  t.deepEqual(await run(), []);
});

for (const parameters of [
  { metadata: 'region=north' },
  { metadata: ['north'] },
  { metadata: { cores: 4 } },
  { metadata: { region: null } },
  { region: 'north' },
  [],
  'region',
]) {
  test(`list_machines refuses the parameters ${JSON.stringify(parameters)}`, async (t) => {
    const { run, sandbox } = await openAction(t, listMachines, { machines });
    await t.throwsAsync(run(parameters), { code: 'invalid_parameters' });
    t.is(sandbox.cluster.requests.length, 0);
  });
}

test('list_machines passes on the error of a cluster that cannot be queried', async (t) => {
  const { run, sandbox } = await openAction(t, listMachines, { machines });
  sandbox.cluster.fail({ kind: 'refuse' });
  await t.throwsAsync(run(), { code: 'cluster_unreachable' });
});

test(
  'list_machines warns of a cluster that lists fewer machines than discovery names',
  warnsOfMissingMachines,
  listMachines,
);
