import test, { type ExecutionContext } from 'ava';
import { bootMachines, machinesCanRun, type SystemdMachines } from '../support/systemd-machines.js';
import { type AnyCluster, realSystemd, sandboxFleet, sandboxSystemd } from './any-cluster.js';
import { CLUSTER_CASES, WHOLE_CLUSTER_CASES } from './any-cluster-cases.js';

// What callers may rely on whatever the kind of the cluster: each case on the simulated clusters of both kinds, and on real machines.

type Teardown = Pick<ExecutionContext, 'teardown'>;

// Tests must be declared in one turn.
const hasMachines = await machinesCanRun('what holds on any cluster');

let booted: SystemdMachines;
const shared = new Map<string, AnyCluster>();
const teardowns: (() => unknown)[] = [];
const forAll: Teardown = { teardown: (work) => void teardowns.unshift(work) };

const KINDS: readonly (readonly [what: string, open: (t: Teardown) => Promise<AnyCluster>])[] = [
  ['a fleet cluster', sandboxFleet],
  ['simulated systemd hosts', sandboxSystemd],
  ...(hasMachines ? [['real systemd hosts', async (t: Teardown) => realSystemd(t, booted)] as const] : []),
];

test.before(async () => {
  if (hasMachines) {
    booted = await bootMachines(2);
    teardowns.push(booted.stop);
  }
  for (const [what, open] of KINDS) shared.set(what, await open(forAll));
});
test.after.always(async () => {
  for (const work of teardowns) await work();
});

for (const [what, open] of KINDS) {
  // First, while nothing is wrong with the machines.
  for (const { title, holds } of WHOLE_CLUSTER_CASES)
    test.serial(`${what}: ${title}`, async (t) => holds(t, await open(t)));
  // The cases that share a clock would each leap over the waits of the others.
  const declare = what === 'real systemd hosts' ? test : test.serial;
  for (const { title, holds } of CLUSTER_CASES)
    declare(`${what}: ${title}`, async (t) => {
      const cluster = shared.get(what);
      if (cluster === undefined) throw new Error('it was not opened');
      await holds(t, cluster);
    });
}
