import test from 'ava';
import { pendingHosts } from '../../src/api/pending-change.js';
import { ActionError } from '../../src/plugin.js';

const unknown = (details?: unknown) => new ActionError('outcome_unknown', 'no answer', { details });

test('the hosts that have not answered a change may still carry it out', (t) => {
  t.deepEqual(pendingHosts(unknown({ hosts: [], mayChangeLater: ['10.0.0.1:7002'] })), ['10.0.0.1:7002']);
});

test('a host that has answered, or has not got the change, will not carry it out', (t) => {
  t.deepEqual(pendingHosts(unknown({ hosts: [], mayChangeLater: [] })), []);
  t.deepEqual(pendingHosts(new ActionError('cluster_unreachable', 'refused')), []);
  t.deepEqual(pendingHosts(new Error('anything')), []);
});

test('an unknown outcome that names no host may still come from any', (t) => {
  t.deepEqual(pendingHosts(unknown()), ['a host of the fleet API']);
});
