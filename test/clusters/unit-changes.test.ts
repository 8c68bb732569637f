import test from 'ava';
import type { ActionError } from '../../src/api/action-error.js';
import type { UnitChange } from '../../src/api/unit-control.js';
import { allMade } from '../../src/clusters/unit-changes.js';

const change = (host: string, did: string, code?: string): UnitChange => ({
  machine_id: host.repeat(32).slice(0, 32),
  host,
  did,
  before: null,
  after: null,
  took_ms: 1,
  error: code === undefined ? null : { code, message: `${code} there` },
});

const failure = (t: { throws: (run: () => unknown) => unknown }, ...changes: UnitChange[]) =>
  t.throws(() => allMade({ unit: 'web.service', verb: 'restart' }, changes)) as ActionError & {
    details: { changes: UnitChange[] };
  };

test('a change that is as asked on each machine is the answer', (t) => {
  const changes = [change('a', 'restarted'), change('b', 'nothing')];
  t.deepEqual(allMade({ unit: 'web.service', verb: 'restart' }, changes), changes);
});

test('what came of a change is unknown, and not nothing, where that is not known', (t) => {
  const error = failure(t, change('a', 'restarted'), change('b', 'nothing', 'outcome_unknown'));
  t.is(error.code, 'outcome_unknown');
  t.deepEqual(
    error.details.changes.map(({ did }) => did),
    ['restarted', 'unknown'],
  );
});

test('the error counts machines and not files, and says once what is the same', (t) => {
  const twice = [change('a', 'returned', 'unit_failed'), change('a', 'returned', 'unit_failed')];
  t.is(failure(t, ...twice).message, 'unit_failed there');
  t.is(
    failure(t, ...twice, change('b', 'replaced')).message,
    'restart of web.service did not succeed on 1 of 2 machines: a: unit_failed there',
  );
});

test('the code is that of all failures, or says that a part was changed', (t) => {
  t.is(failure(t, change('a', 'nothing', 'host_unreachable')).code, 'host_unreachable');
  t.is(failure(t, change('a', 'started'), change('b', 'nothing', 'host_unreachable')).code, 'partly_changed');
  t.is(failure(t, change('a', 'started'), change('b', 'started', 'unit_failed')).code, 'unit_failed');
});
