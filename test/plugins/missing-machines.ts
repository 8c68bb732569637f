import test from 'ava';
import type { Action } from '../../src/plugin.js';
import { ManualClock } from '../support/manual-clock.js';
import { openAction } from './open-action.js';

/** A list warns of a cluster that lists fewer machines than discovery names, says which, and only then. */
export const warnsOfMissingMachines = test.macro(async (t, action: Action) => {
  const clock = new ManualClock();
  const fleetHosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
  const { run, sandbox, warnings, unreachable } = await openAction(t, action, { fleetHosts, clock });
  await run();
  t.deepEqual(warnings, []);
  clock.advance(2_000);
  sandbox.cluster.recover({ machines: 1, states: 0, lasts: 24_000 });
  await run();
  t.deepEqual(unreachable.map(({ host, code }) => `${host} ${code}`).toSorted(), [
    '127.0.0.2 cluster_incomplete',
    '127.0.0.3 cluster_incomplete',
  ]);
  t.regex(warnings.join(), /names 3 hosts of this cluster, but fleet lists 1 machine, without/);
});
