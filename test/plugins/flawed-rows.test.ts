import test from 'ava';
import checkCluster from '../../plugins/check-cluster/index.js';
import listUnits from '../../plugins/list-units/index.js';
import unitLogs from '../../plugins/unit-logs/index.js';
import listUnitStates from '../../plugins/unit-states/index.js';
import type { Sandbox } from '../../src/sandbox/sandbox.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { names, openAction } from './open-action.js';

const WORLD = {
  machines: TWO_MACHINES,
  units: ['a.service', 'b.service'].map((name) => ({
    name,
    options: service('/bin/sleep 1d', { MachineID: MACHINE_A }),
  })),
};

/** fleet shows a unit with an option whose value is a number. */
function addFlawedUnit({ cluster }: Sandbox): void {
  const list = cluster.listedUnits.bind(cluster);
  const value: unknown = 7;
  const flawed = {
    name: 'bad.service',
    options: [{ section: 'Service', name: 'Nice', value: value as string }],
    desiredState: 'launched',
    currentState: 'launched',
    machineID: MACHINE_A,
  };
  cluster.listedUnits = () => [...list(), flawed];
}

for (const [action, expected] of [
  [listUnits, ['a.service', 'b.service']],
  [listUnitStates, ['a.service', 'b.service']],
] as const) {
  test(`${action.name} lists all other rows when one unit cannot be read, and names that unit`, async (t) => {
    const { run, sandbox, warnings } = await openAction(t, action, WORLD);
    addFlawedUnit(sandbox);
    t.deepEqual(await names(run()), [...expected]);
    t.is(warnings.length, 1);
    t.regex(
      warnings.join(),
      /"bad\.service" was left out, because 'value' is not a string \(127\.0\.0\.1:\d+\)/,
    );
  });
}

for (const action of [listUnits, listUnitStates]) {
  test(`${action.name} names no unit that the caller may not see in a warning`, async (t) => {
    const { run, sandbox, warnings } = await openAction(t, action, WORLD);
    addFlawedUnit(sandbox);
    t.deepEqual(await names(run({}, { units: ['a.*'] })), ['a.service']);
    t.is(warnings.length, 1);
    t.false(warnings.join().includes('bad'));
    t.false(warnings.join().includes('b.service'));
  });
}

test('check_cluster finds a unit that cannot be read', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  addFlawedUnit(sandbox);
  const findings = (await run()) as { kind: string; subject: string; message: string }[];
  t.deepEqual(
    findings.map(({ kind, subject }) => [kind, subject]),
    [['list_incomplete', 'units']],
  );
  t.true(findings[0]?.message.includes('"bad.service"'));
});

test('unit_logs reads the logs when fleet lists a machine twice, with a warning', async (t) => {
  const { run, sandbox, warnings } = await openAction(t, unitLogs);
  const [unit] = sandbox.cluster.states();
  const machines = sandbox.cluster.listedMachines();
  sandbox.cluster.listedMachines = () => [...machines.slice(0, 1), ...machines];
  t.true(String(await run({ unit_name: unit?.name })).length > 0);
  t.regex(warnings.join(), /is listed twice/);
});

/** A cluster that shows no states of the unit but one that cannot be read. */
function showOnlyFlawedState({ cluster }: Sandbox, name: string): void {
  const flawed: unknown = 7;
  cluster.listedStates = () => [
    {
      name,
      hash: null,
      machineID: MACHINE_B,
      systemdLoadState: 'loaded',
      systemdActiveState: 'active',
      systemdSubState: flawed as string,
    },
  ];
}

for (const [what, requirements, expected] of [
  ['reads every machine that should run a global unit', { Global: 'true' }, [MACHINE_A, MACHINE_B]],
  ['does not say that a unit runs nowhere', { MachineID: 'c'.repeat(32) }, 'cluster_incomplete'],
] as const) {
  test(`unit_logs ${what}, when a state of it cannot be read`, async (t) => {
    const { run, sandbox, warnings } = await openAction(t, unitLogs, {
      machines: TWO_MACHINES,
      units: [{ name: 'all.service', options: service('/bin/sleep 1d', requirements) }],
    });
    showOnlyFlawedState(sandbox, 'all.service');
    const seen = await run({ unit_name: 'all.service' }).then(
      (text) => [...String(text).matchAll(/^==> (\w+) <==$/gm)].map(([, id]) => id),
      (error: unknown) => (error as { code: string }).code,
    );
    t.deepEqual(seen, expected);
    t.regex(warnings.join(), /"all\.service" was left out, because 'systemdSubState' is not a string/);
  });
}
