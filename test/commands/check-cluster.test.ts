import test from 'ava';
import { checkFleet } from '../../src/commands/check-cluster.js';
import { openFleet } from '../clusters/fleet/open-fleet.js';

test('a machine that fleet lists twice is a warning, and the others can be checked', async (t) => {
  const { fleet, sandbox } = await openFleet(t);
  const machines = sandbox.cluster.listedMachines();
  sandbox.cluster.listedMachines = () => [...machines.slice(0, 1), ...machines];
  const { finding, machines: addresses } = await checkFleet(() => fleet, sandbox.token, {
    fleetPort: sandbox.fleetPort,
    limitMs: 60_000,
  });
  t.is(finding.result, 'warning');
  t.true(finding.lines.join('\n').includes(`"${machines[0]?.id}" is listed twice`));
  t.is(addresses?.length, machines.length);
});
