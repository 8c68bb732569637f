import test from 'ava';
import { MACHINE_A, MACHINE_B } from '../support/open-sandbox.js';
import { inWords, isTrue, type Outcome, outcomeOf, RESTARTED } from './restart-outcome.js';
import { during, puts, UNIT, world } from './restart-world.js';

/**
 * Runs one restart. `plan` says what happens how many milliseconds after its begin. The cluster shows a change after
 * 2 s.
 */
async function restartWith(
  { sandbox, run, clock }: Awaited<ReturnType<typeof world>>,
  plan: Record<number, () => unknown>,
  wait_seconds = 25,
): Promise<Outcome> {
  const begin = clock.now();
  for (const [ms, happen] of Object.entries(plan)) clock.after(Number(ms), happen);
  return outcomeOf(run({ wait_seconds }), sandbox.cluster, clock, begin);
}

/** Lets time pass before the restart. */
async function pass({ clock }: Awaited<ReturnType<typeof world>>, ms: number): Promise<void> {
  await clock.sleep(ms);
}

test('a restart right after etcd was away for 12 s waits for a state that proves the stop', async (t) => {
  const open = await world(t);
  await pass(open, 20_000);
  const back = open.sandbox.cluster.loseEtcd();
  await pass(open, 12_000);
  back();
  t.deepEqual(open.sandbox.cluster.states(), [], 'the row of the running unit has expired');
  const outcome = await restartWith(open, {});
  t.regex(outcome.text, /^web\.service was restarted\.\nbefore: {2}inactive, no state on machine a+\n/);
  t.is(inWords(outcome.happened), RESTARTED);
});

test('a missing row of a machine that is still listed proves nothing', async (t) => {
  const open = await world(t);
  await pass(open, 22_000);
  const back = open.sandbox.cluster.loseEtcd();
  await pass(open, 12_000);
  back();
  // The agent writes its presence, and is cut off before it writes its rows.
  await pass(open, 5_500);
  open.sandbox.cluster.silenceAgent(MACHINE_A);
  const outcome = await restartWith(open, {}, 10);
  t.is(outcome.code, 'outcome_unknown');
  t.regex(
    outcome.text,
    /fleet showed nothing that proves it for machine a+; its desired state is launched again/,
  );
  t.is(inWords(outcome.happened), '');
  t.is(outcome.desiredState, 'launched');
});

test('a unit whose agent is frozen for 27 s is not reported as stopped, and the agent then finds nothing to do', async (t) => {
  const open = await world(t, { MachineID: MACHINE_A });
  const thaw = open.sandbox.cluster.silenceAgent(MACHINE_A);
  const outcome = await restartWith(open, { 27_000: thaw });
  t.is(outcome.code, 'unit_did_not_stop');
  t.regex(
    outcome.text,
    /did not stop within 25\.\d s as far as fleet shows; its desired state is launched again/,
  );
  await pass(open, 60_000);
  t.deepEqual(open.sandbox.cluster.history(UNIT), []);
});

test('with time left, a unit is restarted when its frozen agent goes on', async (t) => {
  const open = await world(t);
  // Shorter than fleet takes to schedule the unit elsewhere.
  const thaw = open.sandbox.cluster.silenceAgent(MACHINE_A);
  const outcome = await restartWith(open, { 20_000: thaw }, 60);
  t.regex(outcome.text, /was restarted/);
  t.is(inWords(outcome.happened), RESTARTED);
});

test('when the agent is killed for good, the unit is started elsewhere, and it is said that the old one may run on', async (t) => {
  const open = await world(t);
  const outcome = await restartWith(open, { 1_000: () => open.sandbox.cluster.silenceAgent(MACHINE_A) }, 60);
  t.is(outcome.code, 'done', outcome.text);
  t.regex(outcome.text, /^web\.service was started on machine b+\.$/m);
  t.regex(outcome.text, /^note: {4}machine a+ left the cluster: the unit may still run there$/m);
  t.deepEqual(open.warnings, [
    `${UNIT}: machine ${MACHINE_A} left the cluster: the unit may still run there`,
  ]);
  t.is(inWords(outcome.happened), 'started on b');
});

test('when the agent is killed and the time is over before fleet moves the unit, nothing is claimed', async (t) => {
  const open = await world(t);
  const outcome = await restartWith(open, { 1_000: () => open.sandbox.cluster.silenceAgent(MACHINE_A) });
  isTrue(t, outcome);
  t.not(outcome.code, 'done');
});

test('a unit that is up on a machine that had left the cluster is not reported as restarted', async (t) => {
  const open = await world(t, { MachineID: MACHINE_A });
  // Its machine is no longer listed, so that the unit has none, and comes back when the unit is launched again.
  let revive: () => void = () => {};
  const begin = () => (revive = open.sandbox.cluster.silenceAgent(MACHINE_A));
  const running = restartWith(
    open,
    { 1_000: begin, 5_000: () => open.sandbox.cluster.setMetadata(MACHINE_B, 'x', 'y') },
    60,
  );
  await during(running, () => puts(open.sandbox) >= 2);
  revive();
  const outcome = await running;
  t.is(outcome.code, 'outcome_unknown', outcome.text);
  t.regex(outcome.text, /is up, but it is not known whether it was restarted/);
  t.is(inWords(outcome.happened), '');
});

test('a machine that dies during the restart is no reason to leave the unit stopped', async (t) => {
  const open = await world(t);
  const outcome = await restartWith(open, { 1_000: () => open.sandbox.cluster.powerOff(MACHINE_A) }, 60);
  t.is(outcome.code, 'done', outcome.text);
  t.regex(outcome.text, /was started on machine b/);
  t.is(inWords(outcome.happened), 'stopped on a, started on b');
});

test('when etcd goes away during the stop, all of the time is used to bring the unit back', async (t) => {
  const open = await world(t);
  let back: () => void = () => {};
  const lose = () => (back = open.sandbox.cluster.loseEtcd());
  const outcome = await restartWith(open, { 2_200: lose, 22_200: () => back() }, 60);
  t.is(outcome.code, 'done', outcome.text);
  t.regex(outcome.text, /^note: {4}fleet could not be asked for 20\.\d s$/m);
  t.is(inWords(outcome.happened), RESTARTED);
});

test('a unit that cannot be seen when its time is over may be up, and how long fleet could not be asked is told', async (t) => {
  const open = await world(t);
  const running = restartWith(open, {});
  await during(running, () => open.sandbox.cluster.starts(UNIT) > 0);
  open.sandbox.cluster.loseEtcd();
  const outcome = await running;
  t.is(outcome.code, 'outcome_unknown', outcome.text);
  t.regex(
    outcome.text,
    /was stopped, and set to launched; it is not known whether it is up; fleet could not be asked for 2\d\.\d s/,
  );
  t.is(inWords(outcome.happened), RESTARTED);
});

test('a unit that came up while fleet could not be asked is up when fleet answers again in time', async (t) => {
  const open = await world(t);
  let back: () => void = () => {};
  const running = restartWith(open, {}, 60);
  await during(running, () => open.sandbox.cluster.starts(UNIT) > 0);
  back = open.sandbox.cluster.loseEtcd();
  open.clock.after(20_000, () => back());
  const outcome = await running;
  t.is(outcome.code, 'done', outcome.text);
  t.is(inWords(outcome.happened), RESTARTED);
  t.regex(outcome.text, /fleet could not be asked for 20\.\d s/);
});

test('launching is tried for all of the time that is left while fleet refuses it', async (t) => {
  const open = await world(t);
  const running = restartWith(open, {}, 240);
  await during(running, () => puts(open.sandbox) > 0);
  const end = open.sandbox.cluster.fail({ kind: '503', method: 'PUT' });
  open.clock.after(90_000, () => void end());
  const outcome = await running;
  t.is(outcome.code, 'done', outcome.text);
  t.is(inWords(outcome.happened), RESTARTED);
  t.true(outcome.tookMs > 90_000);
});
