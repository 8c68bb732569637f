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

for (const [what, shown, expected] of [
  ['another machine has a state that can be read', [MACHINE_A, MACHINE_B], 'lines'],
  ['there is no other state', [MACHINE_B], 'cluster_incomplete'],
] as const) {
  test(`unit_logs of a global unit with a state that cannot be read, when ${what}`, async (t) => {
    const options = [{ section: 'X-Fleet', name: 'Global', value: 'true' }, ...service('/bin/sleep 1d')];
    const { run, sandbox, warnings } = await openAction(t, unitLogs, {
      machines: TWO_MACHINES,
      units: [{ name: 'all.service', options }],
    });
    const states = sandbox.cluster.listedStates.bind(sandbox.cluster);
    const flawed: unknown = 7;
    sandbox.cluster.listedStates = () =>
      states()
        .filter(({ machineID }) => shown.some((id) => id === machineID))
        .map((row) => (row.machineID === MACHINE_B ? { ...row, systemdSubState: flawed as string } : row));
    const seen = await run({ unit_name: 'all.service' }).then(
      () => 'lines',
      (error: unknown) => (error as { code: string }).code,
    );
    t.is(seen, expected);
    t.regex(warnings.join(), /"all\.service" was left out, because 'systemdSubState' is not a string/);
  });
}
