import test from 'ava';
import { WorkerLease } from '../../src/claims/worker-lease.js';
import { logLines } from '../support/log-lines.js';
import { settle } from '../support/open-runner.js';
import { ManualClock } from '../support/manual-clock.js';
import { never } from './open-store.js';

/** A store that grants 45 s, each time after a delay. */
function slowStore(clock: ManualClock, delayMs: number) {
  const pass = async <T>(value: T): Promise<T> => {
    clock.pass(delayMs);
    return value;
  };
  const written = [{ key: 'k', value: '', createRevision: '1', modRevision: '1' }];
  return {
    grantLease: async () => pass({ id: '7', ttlMs: 45_000 }),
    transaction: async () => ({ succeeded: true, parts: [written] }),
    keepAlive: async () => pass<number | undefined>(45_000),
    revokeLease: async () => {},
  };
}

test('a lease counts from before it was asked for, as etcd may have granted it at once', async (t) => {
  const clock = new ManualClock();
  const worker = new WorkerLease({ etcd: slowStore(clock, 2_000), clock, log: logLines().log });
  const lease = await worker.live(never);
  clock.pass(42_999);
  t.true(lease.isAlive());
  clock.pass(1);
  t.false(lease.isAlive());
  t.true(lease.ended.aborted);
});

test('the same holds for each time that it is kept alive', async (t) => {
  const clock = new ManualClock();
  const worker = new WorkerLease({ etcd: slowStore(clock, 2_000), clock, log: logLines().log });
  worker.start();
  await settle();
  const lease = await worker.live(never);
  clock.advance(5_000);
  await settle();
  clock.pass(42_999);
  t.true(lease.isAlive());
  clock.pass(1);
  t.false(lease.isAlive());
  await worker.stop();
});

test('a lease that etcd no longer knows is replaced, and its worker has another name then', async (t) => {
  const clock = new ManualClock();
  const etcd = { ...slowStore(clock, 0), keepAlive: async () => undefined };
  const worker = new WorkerLease({ etcd, clock, log: logLines().log });
  worker.start();
  await settle();
  const lease = await worker.live(never);
  clock.advance(5_000);
  await settle();
  t.false(lease.isAlive());
  const next = await worker.live(never);
  t.true(next.isAlive());
  t.not(next.worker, lease.worker);
  await worker.stop();
  t.is(clock.pending, 0);
});

test('a lease is kept alive also after an error that nobody expects, and that one is logged', async (t) => {
  const clock = new ManualClock();
  const logs = logLines();
  let fails = true;
  const keepAlive = async () => {
    if (fails) throw new TypeError('a defect');
    return 45_000;
  };
  const worker = new WorkerLease({ etcd: { ...slowStore(clock, 0), keepAlive }, clock, log: logs.log });
  worker.start();
  await settle();
  const lease = await worker.live(never);
  clock.advance(5_000);
  await settle();
  t.is(logs.find(/^claim store failed unexpectedly$/).length, 1);
  fails = false;
  clock.advance(1_000);
  await settle();
  clock.advance(40_000);
  t.true(lease.isAlive());
  await worker.stop();
});

test('who needs a lease while its end is not known yet makes the only new one', async (t) => {
  const clock = new ManualClock();
  const store = slowStore(clock, 0);
  let granted = 0;
  let respond = () => {};
  const etcd = {
    ...store,
    grantLease: async () => {
      granted++;
      return store.grantLease();
    },
    keepAlive: async () => new Promise<undefined>((resolve) => (respond = () => resolve(undefined))),
  };
  const worker = new WorkerLease({ etcd, clock, log: logLines().log });
  worker.start();
  await settle();
  await worker.live(never);
  clock.advance(5_000);
  await settle();
  clock.advance(40_000);
  const next = await worker.live(never);
  respond();
  await settle();
  t.is(granted, 2);
  t.is(await worker.live(never), next);
  await worker.stop();
});

test('a lease that is stale already calls back at once, also before its timer', async (t) => {
  const clock = new ManualClock();
  const worker = new WorkerLease({ etcd: slowStore(clock, 0), clock, log: logLines().log });
  const lease = await worker.live(never);
  let called = 0;
  lease.onStale(() => called++);
  clock.pass(14_999);
  lease.onStale(() => called++);
  t.is(called, 0);
  clock.pass(1);
  lease.onStale(() => called++);
  t.is(called, 1);
  clock.advance(0);
  t.is(called, 3);
  lease.onStale(() => called++);
  t.is(called, 4);
});
