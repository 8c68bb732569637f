import test from 'ava';
import { type Unit, type UnitState, unitsWithoutState } from '../../src/plugin.js';

const unit = (name: string, more: Partial<Unit> = {}): Unit => ({
  name,
  options: [],
  desiredState: 'launched',
  currentState: 'inactive',
  machineID: 'm1',
  ...more,
});
const state = (name: string, machineID: string | null): UnitState => ({
  name,
  machineID,
  hash: null,
  systemdLoadState: null,
  systemdActiveState: null,
  systemdSubState: null,
});

test('a launched unit without a state on its machine is missing its state', (t) => {
  const units = [unit('a.service'), unit('b.service'), unit('c.service', { machineID: 'm2' })];
  const states = [state('a.service', 'm1'), state('c.service', 'm1')];
  t.deepEqual(unitsWithoutState(units, states), ['b.service', 'c.service']);
});

test('a unit that need not run, has no machine, or is global is not', (t) => {
  const global = [{ section: 'X-Fleet', name: 'Global', value: 'true' }];
  const units = [
    unit('loaded.service', { desiredState: 'loaded' }),
    unit('inactive.service', { desiredState: 'inactive' }),
    unit('nowhere.service', { machineID: null }),
    unit('global.service', { options: global }),
  ];
  t.deepEqual(unitsWithoutState(units, []), []);
});
