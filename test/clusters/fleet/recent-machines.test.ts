import test from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { RecentMachines } from '../../../src/clusters/fleet/recent-machines.js';
import { ManualClock } from '../../support/manual-clock.js';

const machinesWith = (metadata: Record<string, string>) => [{ id: 'a', primaryIP: null, metadata }];

test('the machines of a cluster are known for two seconds', (t) => {
  const clock = new ManualClock();
  const recent = new RecentMachines(clock);
  const machines = machinesWith({});
  recent.add(new Cluster('one'), machines);
  clock.advance(1_999);
  t.is(recent.of(new Cluster('one')), machines);
  t.is(recent.of(new Cluster('two')), undefined);
  clock.advance(1);
  t.is(recent.of(new Cluster('one')), undefined);
});

test('lists of machines with megabytes of metadata are not all kept', (t) => {
  const recent = new RecentMachines(new ManualClock());
  const clusters = Array.from({ length: 20 }, (_, at) => new Cluster(`token-${at}`));
  for (const cluster of clusters) recent.add(cluster, machinesWith({ large: 'x'.repeat(4_000_000) }));
  const kept = clusters.filter((cluster) => recent.of(cluster) !== undefined);
  t.deepEqual(kept, clusters.slice(-4));
});
