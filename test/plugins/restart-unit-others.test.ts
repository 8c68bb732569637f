import test, { type ExecutionContext } from 'ava';
import { MACHINE_A, MACHINE_B, service } from '../support/open-sandbox.js';
import { inWords, outcomeOf, RESTARTED } from './restart-outcome.js';
import { UNIT, world } from './restart-world.js';

type World = Awaited<ReturnType<typeof world>>;

/** A restart during which somebody else does something, `ms` milliseconds after its begin. */
async function restartWhile(
  t: ExecutionContext,
  ms: number,
  act: (cluster: World['sandbox']['cluster']) => void,
) {
  const { sandbox, clock, run, warnings } = await world(t);
  clock.after(ms, () => act(sandbox.cluster));
  const outcome = await outcomeOf(run(), sandbox.cluster, clock);
  return { ...outcome, warnings, cluster: sandbox.cluster };
}

test('an operator who stops the unit during its stop is not worked against', async (t) => {
  const outcome = await restartWhile(t, 500, (cluster) =>
    cluster.setUnit(UNIT, { desiredState: 'inactive' }),
  );
  t.is(outcome.code, 'unit_changed_meanwhile', outcome.text);
  t.regex(
    outcome.text,
    /was told to stop, but then somebody else set its desired state to inactive, and it was left so/,
  );
  t.is(outcome.desiredState, 'inactive');
});

test('an operator who stops the unit during its start is not worked against', async (t) => {
  const outcome = await restartWhile(t, 5_000, (cluster) =>
    cluster.setUnit(UNIT, { desiredState: 'inactive' }),
  );
  t.is(outcome.code, 'unit_changed_meanwhile', outcome.text);
  t.regex(outcome.text, /was stopped, but then somebody else set its desired state to inactive/);
  t.is(outcome.desiredState, 'inactive');
});

test('a unit that somebody else launches before it has stopped is not reported as restarted', async (t) => {
  const outcome = await restartWhile(t, 600, (cluster) =>
    cluster.setUnit(UNIT, { desiredState: 'launched' }),
  );
  t.is(outcome.code, 'unit_changed_meanwhile', outcome.text);
  t.regex(outcome.text, /was told to stop, but then somebody else set its desired state to launched/);
  t.is(inWords(outcome.happened), '');
});

test('a restart by another worker that stops the unit once more is told', async (t) => {
  const outcome = await restartWhile(t, 4_500, (cluster) =>
    cluster.setUnit(UNIT, { desiredState: 'loaded' }),
  );
  t.is(outcome.code, 'unit_changed_meanwhile', outcome.text);
  t.regex(outcome.text, /somebody else set its desired state to loaded/);
});

test('a unit that is removed during its start is reported as that', async (t) => {
  const outcome = await restartWhile(t, 5_000, (cluster) => cluster.removeUnit(UNIT));
  t.is(outcome.code, 'unit_not_found', outcome.text);
  t.regex(outcome.text, /was removed from the cluster while it was being restarted/);
});

test('a unit whose file is replaced during its stop is restarted with the new file, and that is noted', async (t) => {
  const outcome = await restartWhile(t, 600, (cluster) =>
    cluster.setUnit(UNIT, { options: service('/bin/new') }),
  );
  t.is(outcome.code, 'done', outcome.text);
  t.regex(outcome.text, /^note: {4}somebody else replaced its unit file during the restart$/m);
  t.deepEqual(outcome.warnings, [`${UNIT}: somebody else replaced its unit file during the restart`]);
  t.is(inWords(outcome.happened), RESTARTED);
});

test('rows of an earlier unit of the same name prove nothing', async (t) => {
  const { sandbox, clock, run } = await world(t);
  const { cluster } = sandbox;
  // The agent shows the row of the earlier file for as long as it is silent.
  cluster.setState(UNIT, { systemdActiveState: 'inactive', systemdSubState: 'dead' });
  const thaw = cluster.silenceAgent(MACHINE_A);
  cluster.setUnit(UNIT, { options: service('/bin/new') });
  clock.after(12_000, thaw);
  const begin = clock.now();
  const outcome = await outcomeOf(run({ wait_seconds: 60 }), cluster, clock);
  t.is(outcome.code, 'done', outcome.text);
  const [started] = outcome.happened.filter(({ what }) => what === 'started');
  t.true((started?.at ?? 0) > begin + 12_000, 'nothing was believed before the agent went on');
});

test('rows of other units with the same file prove nothing', async (t) => {
  const { sandbox, clock, run } = await world(t);
  const { cluster } = sandbox;
  // Named before and after the unit, and on both machines.
  const others = ['a', 'b', 'y', 'z'].map((name) => ({
    name: `${name}.service`,
    options: service('/bin/web'),
  }));
  cluster.addUnits(others);
  const outcome = await outcomeOf(run(), cluster, clock);
  t.is(outcome.code, 'done', outcome.text);
  t.notRegex(outcome.text, /an old state/);
});

test('a unit that fleet moves during its stop is launched, and its stop on the first machine is not claimed', async (t) => {
  const { sandbox, clock, run } = await world(t, { MachineMetadata: '"role=web" "role=data"' });
  clock.after(500, () => sandbox.cluster.setMetadata(MACHINE_A, 'role', 'idle'));
  const outcome = await outcomeOf(run(), sandbox.cluster, clock);
  t.is(outcome.code, 'outcome_unknown', outcome.text);
  t.true(
    outcome.text.includes(`fleet showed nothing that proves it for machine ${MACHINE_A};`),
    outcome.text,
  );
  await clock.sleep(10_000);
  t.like(sandbox.cluster.unit(UNIT), { currentState: 'launched', machineID: MACHINE_B });
});
