import test from 'ava';
import reloadUnit from '../../plugins/reload-unit/index.js';
import resetFailedUnit from '../../plugins/reset-failed-unit/index.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import { openAction } from '../../src/testing.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';

const GLOBAL = { Global: 'true' };
const units = [
  { name: 'a.service', options: service('/opt/a', GLOBAL) },
  {
    name: 'b.service',
    options: [...service('/opt/b'), { section: 'Service', name: 'ExecReload', value: '/bin/true' }],
  },
  { name: 'c.service', options: service('/opt/c', GLOBAL), behaviour: 'fails-at-start' as const },
];

test('systemctl of a machine of fleet restarts a unit there, and nowhere else', async (t) => {
  const { run, sandbox, stop } = await openAction(restartUnit, { machines: TWO_MACHINES, units });
  t.teardown(stop);
  const parameters = { unit_name: 'a.service', machine_ids: [MACHINE_B], format: 'structured' };
  t.like(await run(parameters), {
    changes: {
      0: { machine_id: MACHINE_B, did: 'restarted', after: { active: 'active', invocation_id: null } },
    },
  });
  t.deepEqual(
    sandbox.cluster.history('a.service').map(({ machineID, what }) => [machineID, what]),
    [
      [MACHINE_B, 'stopped'],
      [MACHINE_B, 'started'],
    ],
  );
});

test('a unit of fleet that fails when it is started again is not reported as restarted', async (t) => {
  const { run, stop } = await openAction(restartUnit, { machines: TWO_MACHINES, units });
  t.teardown(stop);
  const parameters = { unit_name: 'c.service', machine_ids: [MACHINE_A] };
  await t.throwsAsync(run(parameters), { code: 'unit_failed' });
});

test('units of fleet are reloaded, and their failures reset', async (t) => {
  const reload = await openAction(reloadUnit, { machines: TWO_MACHINES, units });
  t.teardown(reload.stop);
  t.like(await reload.run({ unit_name: 'b.service' }), { changes: { 0: { did: 'reloaded' } } });
  await t.throwsAsync(reload.run({ unit_name: 'a.service' }), { code: 'unit_cannot_reload' });
  const reset = await openAction(resetFailedUnit, { machines: TWO_MACHINES, units });
  t.teardown(reset.stop);
  t.like(await reset.run({ unit_name: 'c.service' }), {
    changes: { 0: { did: 'reset' }, 1: { did: 'reset' } },
  });
  const states = reset.sandbox.cluster.states().filter(({ name }) => name === 'c.service');
  t.deepEqual(
    states.map(({ systemdActiveState }) => systemdActiveState),
    ['inactive', 'inactive'],
  );
});
