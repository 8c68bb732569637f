import test from 'ava';
import { type Machine, type Unit, type UnitState, unitsWithoutState } from '../../src/plugin.js';

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

const machine = (id: string, metadata: Record<string, string> = {}): Machine => ({
  id,
  primaryIP: '10.0.0.1',
  metadata,
});
const fleetOptions = (options: Record<string, string>) =>
  Object.entries(options).map(([name, value]) => ({ section: 'X-Fleet', name, value }));
const everywhere = (more: Record<string, string> = {}, other: Partial<Unit> = {}) =>
  unit('everywhere.service', {
    machineID: null,
    options: fleetOptions({ Global: 'true', ...more }),
    ...other,
  });
const MACHINES = [
  machine('m1', { role: 'web' }),
  machine('m2', { role: 'db' }),
  machine('m3', { role: 'web' }),
];

test('a launched unit without a state on its machine is missing its state', (t) => {
  const units = [unit('a.service'), unit('b.service'), unit('c.service', { machineID: 'm2' })];
  const states = [state('a.service', 'm1'), state('c.service', 'm1')];
  t.deepEqual(unitsWithoutState(units, states, []), [
    { name: 'b.service', missingOn: ['m1'], expected: 1 },
    { name: 'c.service', missingOn: ['m2'], expected: 1 },
  ]);
});

test('a global unit is missing its states on all machines that meet its requirements and show none', (t) => {
  const states = [state('everywhere.service', 'm1'), state('other.service', 'm2')];
  t.deepEqual(unitsWithoutState([everywhere()], states, MACHINES), [
    { name: 'everywhere.service', missingOn: ['m2', 'm3'], expected: 3 },
  ]);
  const web = everywhere({ MachineMetadata: 'role=web' });
  t.deepEqual(unitsWithoutState([web], states, MACHINES), [
    { name: 'everywhere.service', missingOn: ['m3'], expected: 2 },
  ]);
  t.deepEqual(unitsWithoutState([everywhere()], [], MACHINES), [
    { name: 'everywhere.service', missingOn: ['m1', 'm2', 'm3'], expected: 3 },
  ]);
});

test('a unit that need not run, or has no machine, is missing nothing', (t) => {
  const units = [
    unit('loaded.service', { desiredState: 'loaded' }),
    unit('inactive.service', { desiredState: 'inactive' }),
    unit('nowhere.service', { machineID: null }),
    everywhere({}, { desiredState: 'inactive' }),
    everywhere({ MachineMetadata: 'role=none' }),
    everywhere({ Conflicts: 'web*.service' }),
    everywhere({ Replaces: 'old.service' }),
  ];
  t.deepEqual(unitsWithoutState(units, [], MACHINES), []);
});
