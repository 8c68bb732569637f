import test, { type ExecutionContext } from 'ava';
import { MACHINE_A, MACHINE_B, service } from '../support/open-sandbox.js';
import { inWords, outcomeOf } from './restart-outcome.js';
import { codeOf, during, puts, UNIT, world } from './restart-world.js';

const TWO_HOSTS = ['127.0.0.1', '127.0.0.2'];
const ANY_ROLE = { MachineMetadata: '"role=web" "role=data"' };

/** A unit that somebody has unloaded while the agent of its machine was frozen: it still runs there, and fleet shows nothing. */
async function unloadedOnFrozenMachine(t: ExecutionContext, fleetHosts?: string[]) {
  const open = await world(t, ANY_ROLE, fleetHosts);
  const goOn = open.sandbox.cluster.silenceAgent(MACHINE_A);
  open.sandbox.cluster.setUnit(UNIT, { desiredState: 'inactive' });
  await open.clock.sleep(31_000);
  t.deepEqual(
    open.sandbox.cluster.machines.map(({ id }) => id),
    [MACHINE_B],
  );
  return { ...open, goOn };
}

test('a unit that is up on a machine that was not listed at the beginning may have run there all the time', async (t) => {
  const { sandbox, run, clock, goOn } = await unloadedOnFrozenMachine(t);
  const restart = outcomeOf(run({ wait_seconds: 60 }), sandbox.cluster, clock);
  await during(restart, () => puts(sandbox) > 0);
  sandbox.cluster.setMetadata(MACHINE_B, 'role', 'idle');
  goOn();
  const { code, text, happened } = await restart;
  t.is(inWords(happened), '', 'it has run on all the time');
  t.is(code, 'outcome_unknown', text);
  t.regex(
    text,
    /is up, but it is not known whether it was restarted: fleet did not list its machine for a while/,
  );
});

test('a unit without a machine in an incomplete cluster may be running where fleet does not show it', async (t) => {
  const { sandbox, run, clock, warnings } = await unloadedOnFrozenMachine(t, TWO_HOSTS);
  const { code, text, happened } = await outcomeOf(run(), sandbox.cluster, clock);
  t.is(code, 'done', text);
  t.is(inWords(happened), 'started on b');
  t.regex(text, /^web\.service was started; whether it was running before is not known\.$/m);
  t.regex(text, /^stopped: .* \(it was not shown running\)$/m);
  t.regex(text, /^note: {4}Discovery names 2 hosts of this cluster, but fleet lists 1 machine/m);
  t.is(warnings.length, 1);
});

test('a unit that waits for a machine in an incomplete cluster is not said to have been stopped', async (t) => {
  const { sandbox, run, clock } = await unloadedOnFrozenMachine(t, TWO_HOSTS);
  sandbox.cluster.behave(UNIT, 'never-scheduled');
  const { code, text } = await outcomeOf(run({ wait_seconds: 5 }), sandbox.cluster, clock);
  t.is(code, 'unit_not_started', text);
  t.regex(
    text,
    /^web\.service was not shown running before, and set to launched; fleet has found no machine/,
  );
});

test('a unit is left unchanged while fleet lists no machine', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.recover({ machines: 0, states: 100, lasts: 60_000 });
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'cluster_incomplete');
  t.regex(error?.message ?? '', /^web\.service was not changed .*: fleet lists no machine/);
  t.is(puts(sandbox), 0);
});

test('a unit is left unchanged while its machine is among those that are missing', async (t) => {
  const { sandbox, run } = await world(t, {}, TWO_HOSTS);
  sandbox.cluster.addUnits([{ name: 'second.service', options: service('/bin/second') }]);
  t.like(sandbox.cluster.unit('second.service'), { machineID: MACHINE_B });
  sandbox.cluster.recover({ machines: 1, states: 100, lasts: 60_000 });
  const error = await t.throwsAsync(async () => run({ unit_name: 'second.service' }));
  t.is(codeOf(error), 'cluster_incomplete');
  t.regex(error?.message ?? '', /because fleet does not list its machine\. Discovery names 2 hosts/);
  t.is(puts(sandbox), 0);
  t.regex(String(await run()), /was restarted/, 'a unit on a machine that is listed is restarted');
});

test('a machine that fleet lists twice does not keep a unit from being restarted, and is told', async (t) => {
  const { sandbox, run, clock, warnings } = await world(t);
  const listed = sandbox.cluster.listedMachines.bind(sandbox.cluster);
  sandbox.cluster.listedMachines = () => listed().flatMap((machine) => [machine, machine]);
  const { code, text } = await outcomeOf(run(), sandbox.cluster, clock);
  t.is(code, 'done', text);
  t.regex(warnings.join(), /is listed twice/);
});
