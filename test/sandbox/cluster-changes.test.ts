import test, { type ExecutionContext } from 'ava';
import type { UnitBehaviour } from '../../src/sandbox/unit-behaviour.js';
import { MACHINE_A, MACHINE_B, openSandbox, service, TWO_MACHINES } from '../support/open-sandbox.js';

interface Row {
  machineID: string;
  systemdActiveState: string;
  systemdSubState: string;
}

/** A sandbox with one unit, and helpers that change it and show its state. */
async function withUnit(t: ExecutionContext, behaviour?: UnitBehaviour, name = 'a.service') {
  const open = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [{ name, options: service('/bin/a'), desiredState: 'inactive' }],
    delays: { change: 100, report: 40, linger: 70 },
  });
  if (behaviour !== undefined) open.sandbox.cluster.behave(name, behaviour);
  const desire = (desiredState: string) => open.put(name, { desiredState });
  /** Such as `launched: active/running`. */
  const shows = async () => {
    const unit = (await open.fleet(`/units/${name}`)).body as { currentState: string };
    const { states = [] } = (await open.fleet(`/state?unitName=${name}`)).body as { states?: Row[] };
    const rows = states.map((row) => `${row.systemdActiveState}/${row.systemdSubState}`);
    return `${unit.currentState}: ${rows.join(' ')}`.trimEnd();
  };
  return { ...open, desire, shows };
}

test('a launched unit shows as launched only after a while, then starts, then is active', async (t) => {
  const { clock, desire, shows, fleet } = await withUnit(t);
  await desire('launched');
  t.is(await shows(), 'inactive:');
  t.like((await fleet('/units/a.service')).body, { desiredState: 'launched' });
  clock.advance(99);
  t.is(await shows(), 'inactive:');
  clock.advance(1);
  t.is(await shows(), 'launched: activating/start');
  clock.advance(40);
  t.is(await shows(), 'launched: active/running');
});

test('a unit set from launched to loaded is loaded in fleet before systemd has stopped it', async (t) => {
  const { clock, desire, shows, fleet } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  await desire('loaded');
  t.is(await shows(), 'launched: active/running');
  clock.advance(100);
  t.is(await shows(), 'loaded: deactivating/stop-sigterm');
  clock.advance(40);
  t.is(await shows(), 'loaded: inactive/dead');
  t.like((await fleet('/units/a.service')).body, { machineID: MACHINE_A });
});

test('an inactive unit loses its machine and its state rows', async (t) => {
  const { clock, desire, shows, fleet } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  await desire('inactive');
  clock.advance(1000);
  t.is(await shows(), 'inactive:');
  t.false(Object.hasOwn((await fleet('/units/a.service')).body as object, 'machineID'));
});

test('loaded and immediately launched again restarts nothing, as with fleetctl restart', async (t) => {
  const { sandbox, clock, desire, shows } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  t.is(sandbox.cluster.starts('a.service'), 1);

  await desire('loaded');
  await desire('launched');
  clock.advance(1000);
  t.is(sandbox.cluster.starts('a.service'), 1);

  await desire('loaded');
  clock.advance(1000);
  await desire('launched');
  clock.advance(1000);
  t.is(sandbox.cluster.starts('a.service'), 2);
  t.is(await shows(), 'launched: active/running');
});

test('replaced options start the unit again under the new hash', async (t) => {
  const { sandbox, clock, desire, shows, put } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  await put('a.service', { desiredState: 'launched', options: service('/bin/b') });
  clock.advance(100);
  t.is(await shows(), 'launched: activating/start');
  clock.advance(40);
  t.is(await shows(), 'launched: active/running');
  t.is(sandbox.cluster.starts('a.service'), 2);
});

test('a poisoned unit stops running', async (t) => {
  const { clock, desire, fleet } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  await desire('launch');
  clock.advance(1000);
  t.deepEqual((await fleet('/state')).body, {});
});

test('a unit that never stops stays launched and active', async (t) => {
  const { clock, desire, shows, fleet } = await withUnit(t, 'never-stops');
  await desire('launched');
  clock.advance(1000);
  for (const state of ['loaded', 'inactive']) {
    await desire(state);
    clock.advance(1000);
    t.is(await shows(), 'launched: active/running');
    t.like((await fleet('/units/a.service')).body, { desiredState: state });
  }
});

test('a unit that never starts stays activating', async (t) => {
  const { clock, desire, shows } = await withUnit(t, 'never-starts');
  await desire('launched');
  clock.advance(100_000);
  t.is(await shows(), 'launched: activating/start');
});

test('a unit that fails at its start is launched in fleet and failed in systemd, until it is launched well', async (t) => {
  const { sandbox, clock, desire, shows } = await withUnit(t, 'fails-at-start');
  await desire('launched');
  clock.advance(100);
  t.is(await shows(), 'launched: activating/start');
  clock.advance(40);
  t.is(await shows(), 'launched: failed/failed');

  sandbox.cluster.behave('a.service', 'well');
  await desire('launched');
  clock.advance(1000);
  t.is(await shows(), 'launched: failed/failed', 'what is desired has not changed');
  await desire('loaded');
  clock.advance(1000);
  await desire('launched');
  clock.advance(1000);
  t.is(await shows(), 'launched: active/running');
});

test('a unit that is never scheduled gets no machine and no rows', async (t) => {
  const { clock, desire, shows, fleet } = await withUnit(t, 'never-scheduled');
  await desire('launched');
  clock.advance(1000);
  t.is(await shows(), 'inactive:');
  t.false(Object.hasOwn((await fleet('/units/a.service')).body as object, 'machineID'));
});

test('a flapping unit alternates between active and starting', async (t) => {
  const { clock, desire, shows } = await withUnit(t, 'flaps');
  await desire('launched');
  clock.advance(140);
  t.is(await shows(), 'launched: active/running');
  clock.advance(100);
  t.is(await shows(), 'launched: activating/auto-restart');
  clock.advance(100);
  t.is(await shows(), 'launched: active/running');
});

test('a unit can fail independently', async (t) => {
  const { sandbox, clock, desire, shows } = await withUnit(t);
  await desire('launched');
  clock.advance(1000);
  sandbox.cluster.setState('a.service', { systemdActiveState: 'failed', systemdSubState: 'failed' });
  t.is(await shows(), 'launched: failed/failed');
});

test('one machine of a global unit can fail independently', async (t) => {
  const { sandbox, fleet } = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [{ name: 'g.service', options: service('/bin/g', { Global: 'true' }) }],
  });
  sandbox.cluster.setState('g.service', { systemdActiveState: 'failed' }, MACHINE_B);
  t.like((await fleet('/state')).body, {
    states: [{ systemdActiveState: 'active' }, { systemdActiveState: 'failed' }],
  });
});

test('the systemd state of a running unit depends on its type', async (t) => {
  const expected = {
    'a.service': 'active/running',
    'a.socket': 'active/listening',
    'a.timer': 'active/waiting',
    'a.mount': 'active/mounted',
    'a.target': 'active/active',
  };
  const units = Object.keys(expected).map((name) => ({ name }));
  const { fleet } = await openSandbox(t, { units });
  const { states } = (await fleet('/state')).body as { states: (Row & { name: string })[] };
  t.deepEqual(
    Object.fromEntries(states.map((row) => [row.name, `${row.systemdActiveState}/${row.systemdSubState}`])),
    expected,
  );
});

test('units without requirements are spread over the machines', async (t) => {
  const { sandbox } = await openSandbox(t, { machines: TWO_MACHINES, units: [] });
  sandbox.cluster.addUnits(10);
  const onA = sandbox.cluster.units().filter(({ machineID }) => machineID === MACHINE_A);
  t.is(onA.length, 5);
});

test('MachineID and MachineMetadata decide where a unit runs; without a fitting machine it is not scheduled', async (t) => {
  const cases: [requirements: Record<string, string>, machine: string | undefined][] = [
    [{ MachineID: MACHINE_B }, MACHINE_B],
    [{ MachineID: 'c'.repeat(32) }, undefined],
    [{ MachineMetadata: 'role=data' }, MACHINE_B],
    [{ MachineMetadata: '"role=data" "role=worker"' }, MACHINE_B],
    [{ MachineMetadata: '"role=data" "region=north"' }, MACHINE_B],
    [{ MachineMetadata: '"role=data" "region=south"' }, undefined],
    [{ MachineMetadata: 'gpu=true' }, undefined],
    // fleet ignores a requirement that is not KEY=VALUE.
    [{ MachineMetadata: 'gpu' }, MACHINE_A],
  ];
  for (const [requirements, machine] of cases) {
    const { sandbox, fleet } = await openSandbox(t, {
      machines: TWO_MACHINES,
      units: [{ name: 'a.service', options: service('/bin/a', requirements) }],
    });
    const unit = (await fleet('/units/a.service')).body as { machineID?: string; currentState: string };
    t.is(unit.machineID, machine, JSON.stringify(requirements));
    t.is(unit.currentState, machine === undefined ? 'inactive' : 'launched');
    t.is(sandbox.cluster.states().length, machine === undefined ? 0 : 1);
  }
});

test('a global unit runs on every machine that meets its requirements', async (t) => {
  const south = { id: 'c'.repeat(32), primaryIP: '127.0.0.3', metadata: { region: 'south' } };
  const options = service('/bin/g', { Global: 'True', MachineMetadata: 'region=north' });
  const { sandbox } = await openSandbox(t, {
    machines: [...TWO_MACHINES, south],
    units: [{ name: 'g.service', options }],
  });
  t.deepEqual(
    sandbox.cluster.states().map(({ machineID }) => machineID),
    [MACHINE_A, MACHINE_B],
  );
});

test('a unit moves when its machine is removed, and a waiting unit is scheduled when a machine fits', async (t) => {
  const { sandbox, clock, fleet } = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [
      { name: 'moves.service', options: service('/bin/a', { MachineMetadata: 'region=north' }) },
      { name: 'waits.service', options: service('/bin/b', { MachineMetadata: 'gpu=true' }) },
      { name: 'g.service', options: service('/bin/g', { Global: 'true' }) },
    ],
  });
  t.like((await fleet('/units/moves.service')).body, { machineID: MACHINE_A });
  sandbox.cluster.setMachines(TWO_MACHINES.slice(1));
  sandbox.cluster.setMetadata(MACHINE_B, 'gpu', 'true');
  clock.advance(150);
  t.like((await fleet(`/state?unitName=g.service&machineID=${MACHINE_B}`)).body, {
    states: [{ systemdActiveState: 'active' }],
  });
  clock.advance(1000);
  for (const name of ['moves.service', 'waits.service']) {
    t.like((await fleet(`/units/${name}`)).body, { machineID: MACHINE_B, currentState: 'launched' });
  }
  t.deepEqual(
    sandbox.cluster.states().map(({ name, machineID }) => [name, machineID]),
    [
      ['g.service', MACHINE_B],
      ['moves.service', MACHINE_B],
      ['waits.service', MACHINE_B],
    ],
  );
  t.is(sandbox.cluster.starts('g.service'), 0, 'where it ran already it was left alone');
});

test('a unit cannot be added twice, or under a name that fleet refuses', async (t) => {
  const { sandbox } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  t.throws(() => sandbox.cluster.addUnits([{ name: 'a.service' }]), { instanceOf: TypeError });
  t.throws(() => sandbox.cluster.addUnits([{ name: 'a' }]), { instanceOf: TypeError });
});
