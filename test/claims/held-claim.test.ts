import { getEventListeners } from 'node:events';
import test from 'ava';
import { EtcdError } from '../../src/claims/etcd-error.js';
import type { Operation, Transaction } from '../../src/claims/etcd-client.js';
import { HeldClaim } from '../../src/claims/held-claim.js';
import { type ClaimRecord, encodeRecord } from '../../src/claims/claim-record.js';
import type { LiveLease } from '../../src/claims/worker-lease.js';
import { logLines } from '../support/log-lines.js';
import { settle, watched } from '../support/open-runner.js';
import { ManualClock } from '../support/manual-clock.js';
import { done, never } from './open-store.js';

const RECORD: ClaimRecord = { state: 'claimed', worker: 'w', run: 'r', action: 'act', repeated: false };

/** A claim in a store of which each transaction does what the test says, and then succeeds. */
function claimIn(transaction: (given: Transaction) => void, { isWritten = true, isEmpty = false } = {}) {
  const clock = new ManualClock();
  const logs = logLines();
  const ended = new AbortController();
  const lease: LiveLease = {
    worker: 'w',
    id: '7',
    createdIn: '1',
    ended: ended.signal,
    isAlive: () => !ended.signal.aborted,
    onStale: () => () => {},
    end: () => ended.abort(),
  };
  const now = { key: 'k', value: encodeRecord(RECORD), createRevision: '1', modRevision: '1' };
  const etcd = {
    transaction: async (given: Transaction) => {
      transaction(given);
      return isEmpty ? { succeeded: false, parts: [[]] } : { succeeded: true, parts: [[now]] };
    },
  };
  const leases = { current: async () => '8', forget: () => {} };
  const written = { key: 'k', record: RECORD, revision: isWritten ? '1' : undefined, before: undefined };
  const claim = new HeldClaim(
    { run: RECORD.run, action: RECORD.action, written, isKept: true },
    { etcd, leases, lease, clock, log: logs.log, onPending: () => {} },
  );
  return { claim, clock, logs, lease, ended };
}

test('a request for a lock that arrives late locks nothing: it holds only while the claim is as it was', async (t) => {
  const compared: object[] = [];
  const { claim } = claimIn(({ compare, success }) => {
    if (success.some((each) => 'put' in each && each.put.startsWith('/fleet-manager/units/')))
      compared.push(...compare);
  });
  await claim.lockUnit(undefined, 'web.service', never);
  t.deepEqual(compared, [
    { key: '/fleet-manager/units/none/web.service', is: 'absent' },
    { key: 'k', is: 'written', in: '1' },
  ]);
});

const deletes = (operations: readonly Operation[]) =>
  operations.flatMap((each) => ('delete' in each ? [each.delete] : []));

test('the units are freed also when the outcome cannot be noted because of a defect, and that is logged', async (t) => {
  const freed: string[] = [];
  const { claim, logs } = claimIn(({ success }) => {
    if (success.some((each) => 'put' in each && each.put === 'k')) throw new TypeError('a defect');
    freed.push(...deletes(success));
  });
  await claim.lockUnit(undefined, 'web.service', never);
  await claim.settle(done(1), never);
  t.deepEqual(freed, ['/fleet-manager/units/none/web.service']);
  t.is(logs.find(/^claim store failed unexpectedly$/).length, 1);
  t.is(logs.find(/^change outcome not recorded$/).length, 1);
});

test('a claim of which it is not known whether it was written makes a late write fail when it is given up', async (t) => {
  const given: Transaction[] = [];
  const { claim } = claimIn((each) => given.push(each), { isWritten: false, isEmpty: true });
  await claim.release();
  const { compare, success } = given.at(-1) ?? {};
  t.deepEqual(compare, [{ key: 'k', is: 'absent' }]);
  const value = encodeRecord({ ...RECORD, worker: 'none' });
  t.deepEqual(success, [{ put: 'k', value, lease: '8' }]);
  const known: Transaction[] = [];
  await claimIn((each) => known.push(each), { isEmpty: true }).claim.release();
  t.is(known.length, 1);
});

for (const [begins, seconds] of [
  [false, 15],
  [true, 5],
] as const)
  test(`a caller waits for ${seconds} s until the outcome of a change that has${begins ? '' : ' not'} begun is noted`, async (t) => {
    let isAway = false;
    const { claim, clock, lease } = claimIn(() => {
      if (isAway) throw new EtcdError('away');
    });
    if (begins) await claim.begin(never);
    isAway = true;
    const settled = watched(claim.settle(done(1), never));
    await settle();
    for (let left = seconds * 2; left > 0; left--) {
      t.is(settled(), undefined);
      clock.advance(500);
      await settle();
    }
    t.true(settled(), 'whether another worker has taken it is not known');
    lease.end();
  });

test('attempts to note an outcome leave nothing behind, and the end of the lease ends them', async (t) => {
  let tried = 0;
  const { claim, clock, logs, lease } = claimIn(() => {
    tried++;
    throw new EtcdError('away');
  });
  const settled = claim.settle(done(1), never);
  for (let n = 1; n <= 5; n++) {
    await settle();
    t.is(tried, n);
    t.true(getEventListeners(lease.ended, 'abort').length <= 1);
    clock.advance(500);
  }
  await settle();
  lease.end();
  t.false(await settled);
  t.is(tried, 6);
  t.is(logs.find(/^change outcome not recorded$/).length, 1);
  t.is(clock.pending, 0);
});
