import test from 'ava';
import { pendingHost } from '../../src/api/pending-change.js';
import { ActionError } from '../../src/plugin.js';

const unknown = (details?: unknown) => new ActionError('outcome_unknown', 'no answer', { details });

test('the host that has not answered a change may still carry it out', (t) => {
  t.is(pendingHost(unknown({ hosts: [], pending: '10.0.0.1:7002' })), '10.0.0.1:7002');
});

test('a host that has answered, or has not got the change, will not carry it out', (t) => {
  t.is(pendingHost(unknown({ hosts: [], pending: null })), undefined);
  t.is(pendingHost(new ActionError('cluster_unreachable', 'refused')), undefined);
  t.is(pendingHost(new Error('anything')), undefined);
});

test('an unknown outcome that names no host may still come from any', (t) => {
  t.is(pendingHost(unknown()), 'a host of the fleet API');
});
