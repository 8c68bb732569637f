import test from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { HostHealth } from '../../../src/clusters/fleet/host-health.js';
import { ManualClock } from '../../support/manual-clock.js';

const CLUSTER = new Cluster('one');
const [A, B, C] = ['a', 'b', 'c'].map((name) => new URL(`http://${name}.test:1/`)) as [URL, URL, URL];
const HOSTS = [A, B, C];

function open() {
  const clock = new ManualClock();
  const health = new HostHealth(clock);
  return { clock, health, order: () => health.inOrder(CLUSTER, HOSTS).map(({ hostname }) => hostname[0]) };
}

test('hosts of which nothing is known keep their order', (t) => {
  t.deepEqual(open().order(), ['a', 'b', 'c']);
});

test('the host that responded is first, and the next ones follow', (t) => {
  const { health, order } = open();
  health.responded(CLUSTER, B);
  t.deepEqual(order(), ['b', 'c', 'a']);
  t.deepEqual(
    health.inOrder(new Cluster('other'), HOSTS).map(({ hostname }) => hostname[0]),
    ['a', 'b', 'c'],
  );
});

test('a host that failed is last for 30 seconds, and then has its place again', (t) => {
  const { clock, health, order } = open();
  health.failed(A);
  t.deepEqual(order(), ['b', 'c', 'a']);
  clock.advance(29_999);
  t.deepEqual(order(), ['b', 'c', 'a']);
  clock.advance(1);
  t.deepEqual(order(), ['a', 'b', 'c']);
});

test('a step of the system time does not shorten or lengthen that', (t) => {
  const { clock, health, order } = open();
  health.failed(A);
  clock.stepWallTime(86_400_000);
  t.deepEqual(order(), ['b', 'c', 'a']);
  clock.stepWallTime(-2 * 86_400_000);
  clock.advance(30_000);
  t.deepEqual(order(), ['a', 'b', 'c']);
});

test('when all hosts have failed, the one that failed first is asked first', (t) => {
  const { clock, health, order } = open();
  for (const host of [B, C, A]) {
    health.failed(host);
    clock.advance(1_000);
  }
  t.deepEqual(order(), ['b', 'c', 'a']);
});

test('a host that responds is not avoided any more', (t) => {
  const { health, order } = open();
  health.failed(A);
  health.responded(CLUSTER, A);
  t.deepEqual(order(), ['a', 'b', 'c']);
});

test('only the host that responded last, within two seconds and without a failure since, has just responded', (t) => {
  const { clock, health } = open();
  const just = () => HOSTS.filter((host) => health.hasJustResponded(CLUSTER, host));
  t.deepEqual(just(), []);
  health.responded(CLUSTER, A);
  health.responded(CLUSTER, B);
  clock.advance(1_999);
  t.deepEqual(just(), [B]);
  clock.advance(1);
  t.deepEqual(just(), []);
  health.responded(CLUSTER, B);
  health.failed(B);
  t.deepEqual(just(), []);
});
