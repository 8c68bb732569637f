import test from 'ava';
import { InformedHosts } from '../../plugins/restart-unit/informed-hosts.js';

test('before an order is known to have been carried out, every host counts', (t) => {
  const hosts = new InformedHosts('launched');
  hosts.ordered('loaded');
  t.true(hosts.shows('a', 'launched'));
});

test('after an order, only the host that confirmed it counts, and one that shows the ordered state', (t) => {
  const hosts = new InformedHosts('launched');
  hosts.ordered('loaded');
  hosts.confirmedBy('a');
  t.true(hosts.shows('a', 'loaded'));
  t.false(hosts.shows('b', 'launched'), 'it may lag behind');
  t.true(hosts.shows('b', 'loaded'));
  t.true(hosts.shows('b', 'inactive'), 'somebody else has set that later');
});

test('a host that shows launched as before the restart does not count after the launch', (t) => {
  const hosts = new InformedHosts('launched');
  hosts.ordered('loaded');
  hosts.confirmedBy('a');
  hosts.ordered('launched');
  hosts.confirmedBy('a');
  t.false(hosts.shows('b', 'launched'));
  t.false(hosts.shows('b', 'loaded'), 'it has the first order only');
  t.true(hosts.shows('b', 'launched'));
});

test('an order for the state that the unit has already shows nothing of a host that has not confirmed it', (t) => {
  const hosts = new InformedHosts('launched');
  hosts.ordered('launched');
  hosts.confirmedBy('a');
  t.false(hosts.shows('b', 'launched'));
  t.true(hosts.include('a'));
});

test('an order that is sent again to another host is the same order', (t) => {
  const hosts = new InformedHosts('launched');
  hosts.ordered('loaded');
  hosts.ordered('loaded');
  hosts.confirmedBy('b');
  t.true(hosts.shows('a', 'loaded'));
});
