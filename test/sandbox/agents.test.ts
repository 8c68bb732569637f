import test, { type ExecutionContext } from 'ava';
import { MACHINE_A, MACHINE_B, openSandbox, service, TWO_MACHINES } from '../support/open-sandbox.js';

const UNIT = 'a.service';

/** A unit that runs on machine A, with delays like those of a real cluster. */
async function withRunningUnit(t: ExecutionContext, fleetOptions: Record<string, string> = {}) {
  const open = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [{ name: UNIT, options: service('/bin/a', fleetOptions) }],
    delays: { change: 2_000, report: 1_000, linger: 4_000 },
  });
  const { cluster } = open.sandbox;
  /** Such as `launched on a: active`. */
  const shown = () => {
    const unit = cluster.unit(UNIT);
    if (typeof unit !== 'object') return unit;
    const rows = cluster.states().map((row) => row.systemdActiveState);
    return `${unit.currentState} on ${unit.machineID?.slice(0, 1) ?? 'none'}: ${rows.join(' ')}`.trimEnd();
  };
  const happened = () => cluster.history(UNIT).map(({ what, machineID }) => `${what} on ${machineID[0]}`);
  const listed = () => cluster.machines.map(({ id }) => id);
  return { ...open, cluster, shown, happened, listed };
}

test('the history has the real starts and stops, with their times and machines', async (t) => {
  const { cluster, clock, put } = await withRunningUnit(t);
  const from = clock.now();
  await put(UNIT, { desiredState: 'loaded' });
  clock.advance(5_000);
  await put(UNIT, { desiredState: 'launched' });
  clock.advance(5_000);
  t.deepEqual(cluster.history(UNIT), [
    { at: from + 3_000, machineID: MACHINE_A, what: 'stopped' },
    { at: from + 7_000, machineID: MACHINE_A, what: 'started' },
  ]);
});

test('an agent that works keeps its rows and its machine for as long as it likes', async (t) => {
  const { clock, shown, listed } = await withRunningUnit(t);
  for (let minute = 0; minute < 10; minute++) {
    clock.advance(59_999);
    t.is(shown(), 'launched on a: active');
    t.deepEqual(listed(), [MACHINE_A, MACHINE_B]);
  }
});

test('the machine of a silent agent leaves the list after 26 s, its row after 30 s, and its unit runs on', async (t) => {
  const { cluster, clock, shown, happened, listed } = await withRunningUnit(t, { MachineID: MACHINE_A });
  cluster.silenceAgent(MACHINE_A);
  clock.advance(25_999);
  t.deepEqual(listed(), [MACHINE_A, MACHINE_B]);
  t.is(shown(), 'launched on a: active');
  clock.advance(1);
  t.deepEqual(listed(), [MACHINE_B]);
  clock.advance(3_999);
  t.is(shown(), 'inactive on none: active');
  clock.advance(1);
  t.is(shown(), 'inactive on none:');
  t.deepEqual(happened(), []);
});

test('a silent agent carries out no change, and does what it has missed when it works again', async (t) => {
  const { cluster, clock, shown, happened, put } = await withRunningUnit(t);
  const thaw = cluster.silenceAgent(MACHINE_A);
  await put(UNIT, { desiredState: 'loaded' });
  clock.advance(20_000);
  t.is(shown(), 'launched on a: active');
  thaw();
  clock.advance(3_000);
  t.is(shown(), 'loaded on a: inactive');
  t.deepEqual(happened(), ['stopped on a']);
});

test('the unit of a silent agent starts elsewhere as well, and stops where it was when that agent works again', async (t) => {
  const { cluster, clock, shown, happened } = await withRunningUnit(t);
  const thaw = cluster.silenceAgent(MACHINE_A);
  clock.advance(29_000);
  t.is(shown(), 'launched on b: active active');
  t.deepEqual(happened(), ['started on b']);
  thaw();
  clock.advance(3_000);
  t.is(shown(), 'launched on b: active');
  t.deepEqual(happened(), ['started on b', 'stopped on a']);
});

test('when etcd was away, a running unit shows as inactive without a row until its agent writes it again', async (t) => {
  const { cluster, clock, shown, happened, listed } = await withRunningUnit(t);
  // Rows are written every 24 s: the outage hides one of these times.
  clock.advance(20_000);
  const back = cluster.loseEtcd();
  clock.advance(12_000);
  back();
  t.is(shown(), 'inactive on a:');
  t.deepEqual(listed(), [MACHINE_A, MACHINE_B]);
  clock.advance(15_999);
  t.is(shown(), 'inactive on a:');
  clock.advance(1);
  t.is(shown(), 'launched on a: active');
  t.deepEqual(happened(), []);
});

test('while etcd is away the API fails and nothing changes; after that the agents do what they have missed', async (t) => {
  const { cluster, clock, fleet, put, shown, happened } = await withRunningUnit(t);
  await put(UNIT, { desiredState: 'loaded' });
  const back = cluster.loseEtcd();
  t.like(await fleet('/machines'), {
    status: 503,
    body: { error: { code: 503, message: 'fleet server unable to communicate with etcd' } },
  });
  t.is((await put(UNIT, { desiredState: 'launched' })).status, 503);
  clock.advance(10_000);
  t.deepEqual(happened(), []);
  back();
  clock.advance(3_000);
  t.is((await fleet('/machines')).status, 200);
  t.is(shown(), 'loaded on a: inactive');
  t.deepEqual(happened(), ['stopped on a']);
});

test('systemd finishes a stop while the agent is silent, but fleet does not show it', async (t) => {
  const { cluster, clock, put, shown, happened } = await withRunningUnit(t);
  await put(UNIT, { desiredState: 'loaded' });
  clock.advance(2_000);
  cluster.silenceAgent(MACHINE_A);
  clock.advance(5_000);
  t.is(shown(), 'loaded on a: deactivating');
  t.deepEqual(happened(), ['stopped on a']);
});

test('a machine that is switched off stops its units at once; fleet shows them until their rows expire', async (t) => {
  const { cluster, clock, shown, happened } = await withRunningUnit(t);
  cluster.powerOff(MACHINE_A);
  t.is(shown(), 'launched on a: active');
  t.deepEqual(happened(), ['stopped on a']);
  clock.advance(31_000);
  t.is(shown(), 'launched on b: active');
  t.deepEqual(happened(), ['stopped on a', 'started on b']);
});

test('a oneshot unit ends inactive, or stays active with RemainAfterExit, and is not run again', async (t) => {
  const { cluster, clock } = await withRunningUnit(t);
  const oneshot = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];
  const remaining = [...oneshot, { section: 'Service', name: 'RemainAfterExit', value: 'yes' }];
  cluster.setUnit('job.service', { options: oneshot, desiredState: 'launched' });
  cluster.setUnit('kept.service', { options: remaining, desiredState: 'launched' });
  clock.advance(2_000);
  const states = () =>
    cluster.states().map((row) => `${row.name} ${row.systemdActiveState}/${row.systemdSubState}`);
  t.deepEqual(states().slice(1), ['job.service activating/start', 'kept.service activating/start']);
  clock.advance(60_000);
  t.deepEqual(states().slice(1), ['job.service inactive/dead', 'kept.service active/exited']);
  t.like(cluster.unit('job.service'), { currentState: 'launched' });
  t.is(cluster.starts('job.service'), 1);
});

test('a machine that is silent once more while it is not listed changes nothing that has happened', async (t) => {
  const { cluster, clock, put } = await withRunningUnit(t);
  await put(UNIT, { desiredState: 'inactive' });
  cluster.powerOff(MACHINE_A);
  clock.advance(60_000);
  const from = clock.now();
  await put(UNIT, { desiredState: 'launched' });
  cluster.silenceAgent(MACHINE_A);
  clock.advance(5_000);
  const started = cluster.history(UNIT).find(({ what }) => what === 'started');
  t.deepEqual(started, { at: from + 2_000, machineID: MACHINE_B, what: 'started' });
});
