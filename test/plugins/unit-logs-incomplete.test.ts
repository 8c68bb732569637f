import test, { type ExecutionContext } from 'ava';
import unitLogs from '../../plugins/unit-logs/index.js';
import { ManualClock } from '../support/manual-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { openAction } from './open-action.js';

const UNIT = { unit_name: 'all.service' };

/** A cluster of two machines, both of which run a global unit, and whose hosts discovery names. */
async function open(t: ExecutionContext) {
  const clock = new ManualClock();
  const opened = await openAction(t, unitLogs, {
    machines: TWO_MACHINES,
    fleetHosts: TWO_MACHINES.map(({ primaryIP }) => primaryIP),
    units: [{ name: 'all.service', options: service('/bin/sleep 1d', { Global: 'true' }) }],
    clock,
  });
  const codeOf = async (parameters: object) =>
    opened.run(parameters).then(
      () => 'lines',
      (error: unknown) => (error as { code: string }).code,
    );
  return { ...opened, clock, codeOf };
}

const partsOf = (text: unknown) => [...String(text).matchAll(/^==> (\w+) <==$/gm)].map(([, id]) => id);

test('while the agent of a machine is silent, the logs of a global unit come with a warning, and those of that machine with an error', async (t) => {
  const { run, sandbox, clock, warnings, codeOf } = await open(t);
  t.deepEqual(partsOf(await run(UNIT)), [MACHINE_A, MACHINE_B]);
  t.deepEqual(warnings, []);
  const goOn = sandbox.cluster.silenceAgent(MACHINE_B);
  clock.advance(36_000);
  const text = String(await run(UNIT));
  t.regex(
    text,
    /\n\[more machines may have lines: Discovery names 2 hosts [^\n]* without 127\.0\.0\.2: [^\n]*\]\n$/,
  );
  t.is(warnings.length, 1);
  t.regex(warnings[0] ?? '', /^more machines may have lines: .* without 127\.0\.0\.2/);
  t.is(await codeOf({ ...UNIT, machine_id: MACHINE_B }), 'cluster_incomplete');
  t.is(await codeOf({ ...UNIT, machine_id: MACHINE_A }), 'lines');
  goOn();
  clock.advance(2_000);
  t.deepEqual(partsOf(await run(UNIT)), [MACHINE_A, MACHINE_B]);
  t.is(warnings.length, 1);
});

test('while all agents are silent, a global unit is not said to run nowhere', async (t) => {
  const { sandbox, clock, codeOf } = await open(t);
  for (const { id } of TWO_MACHINES) sandbox.cluster.silenceAgent(id);
  clock.advance(36_000);
  t.is(await codeOf(UNIT), 'cluster_incomplete');
  t.is(await codeOf({ ...UNIT, machine_id: MACHINE_A }), 'cluster_incomplete');
});

test('while fleet lists all machines, but not their states, all machines of a global unit are read', async (t) => {
  const { run, sandbox, clock, warnings } = await open(t);
  for (const states of [0, 1]) {
    sandbox.cluster.recover({ machines: 2, states, lasts: 24_000 });
    t.deepEqual(partsOf(await run(UNIT)), [MACHINE_A, MACHINE_B], `${states} states`);
    clock.advance(24_000);
  }
  t.deepEqual(warnings, []);
});
