import test, { type ExecutionContext } from 'ava';
import type { Reply } from '../../src/core/call.js';
import { MadeElsewhere } from '../../src/core/change-claims.js';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { eventually } from '../support/eventually.js';
import { systemClock } from '../../src/lib/clock.js';
import { ManualClock } from '../support/manual-clock.js';
import { recordedUpstream } from '../support/recorded-upstream.js';
import { hasEtcd, type OwnEtcd, ownEtcd } from '../support/own-etcd.js';
import { done, endAllWorkers, held, keysIn, never, openStore } from './open-store.js';
import { relayTo } from './relay.js';

const CLUSTER = undefined;

/** Two workers on one etcd. */
async function twoWorkers(t: ExecutionContext) {
  const etcd = await ownEtcd(t);
  return { etcd, a: openStore(t, etcd), b: openStore(t, etcd) };
}

const isPending = async (work: Promise<unknown>) => {
  const settled = work.then(
    () => false,
    () => false,
  );
  return Promise.race([settled, new Promise((resolve) => setTimeout(resolve, 300)).then(() => true)]);
};

if (hasEtcd) {
  test('who watches is told of each call of the store', async (t) => {
    const { watch, calls } = recordedUpstream();
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd, { watch });
    await held(await first('secret key')).begin(never);
    const told = new Set(calls.map(({ kind, operation, host }) => `${kind} ${operation} ${host}`));
    const { host } = new URL(etcd.url);
    t.deepEqual([...told].toSorted(), [`claims POST kv/txn ${host}`, `claims POST lease/grant ${host}`]);
    t.true(calls.every(({ outcome }) => outcome === 'ok' || outcome === 'in progress'));
  });

  test('a change that was made is answered with its reply when another worker gets its message again', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    t.false(claim.wasBegun);
    await claim.begin(never);
    const reply = {
      ...done({ units: ['web'], large: 12_345_678_901_234_567_890n }),
      details: { warnings: ['so'] },
    };
    await claim.settle(reply, never);
    t.deepEqual(await b.repeated('k'), { state: 'settled', reply });
    t.deepEqual(await a.repeated('k'), { state: 'settled', reply });
    t.is(b.logs.find(/^recorded outcome reused$/).length, 1);
  });

  test('an error is kept as it was', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    await claim.begin(never);
    const body = { errors: ['It failed'], code: 'unit_failed', details: { unit: 'web.service' } };
    await claim.settle({ status: 'error', body }, never);
    t.deepEqual(await b.repeated('k'), { state: 'settled', reply: { status: 'error', body } });
  });

  test('a new request that looks like one before runs', async (t) => {
    const { a, b } = await twoWorkers(t);
    const before = held(await a.first('k'));
    await before.begin(never);
    await before.settle(done(1), never);
    const claim = held(await b.first('k'));
    t.false(claim.wasBegun);
    await claim.begin(never);
    await claim.settle(done(2), never);
    t.deepEqual(await a.repeated('k'), { state: 'settled', reply: done(2) });
  });

  test('a message that another worker got again and made, while this one had it, is not made once more', async (t) => {
    const etcd = await ownEtcd(t);
    const b = openStore(t, etcd);
    const claim = held(await b.repeated('k'));
    await claim.begin(never);
    await claim.settle(done('by b'), never);
    const later = (ms: number) => ({ ...systemClock, wallTime: () => systemClock.wallTime() + ms });
    const a = openStore(t, etcd, { clock: later(60_000) });
    t.deepEqual(await a.kept('k', 61_000), { state: 'settled', reply: done('by b') });
    t.is((await a.kept('k', 30_000)).state, 'held', 'it came after that');
  });

  test('a message that another worker got again and refused, while this one had it, is refused', async (t) => {
    const etcd = await ownEtcd(t);
    const b = openStore(t, etcd);
    const refusal: Reply = { status: 'error', body: { errors: ['not now'], code: 'cluster_busy' } };
    await held(await b.repeated('k')).settle(refusal, never);
    const a = openStore(t, etcd);
    t.deepEqual(await a.kept('k', 1_000), { state: 'settled', reply: refusal });
  });

  test('a message that is delivered again waits while a living worker makes its change', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    const waiting = b.repeated('k');
    t.true(await isPending(waiting));
    await claim.begin(never);
    t.true(await isPending(waiting));
    await claim.settle(done('by a'), never);
    t.deepEqual(await waiting, { state: 'settled', reply: done('by a') });
  });

  test('a new request that looks like one that runs waits for it, and then runs', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    const waiting = b.first('k');
    t.true(await isPending(waiting));
    await claim.begin(never);
    await claim.settle(done('by a'), never);
    await held(await waiting).begin(never);
    t.pass();
  });

  test('a message that waits for its own second delivery gets the reply of that one', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await b.repeated('k'));
    // Its worker does not know yet that its connection is lost, and that the broker has delivered the message again.
    const waiting = a.first('k');
    t.true(await isPending(waiting));
    await claim.begin(never);
    await claim.settle(done('by b'), never);
    t.deepEqual(await waiting, { state: 'settled', reply: done('by b') });
  });

  test('waiting for another worker ends with the signal', async (t) => {
    const { etcd, a } = await twoWorkers(t);
    let looks = 0;
    const sleep: typeof systemClock.sleep = async (ms, options) => {
      looks++;
      return systemClock.sleep(ms, options);
    };
    const b = openStore(t, etcd, { clock: { ...systemClock, sleep } });
    held(await a.first('k'));
    const { signal, abort } = aborting();
    const waiting = b.repeated('k', signal);
    await eventually('it has looked', () => looks > 1);
    abort();
    const error = await t.throwsAsync(waiting, { instanceOf: MadeElsewhere });
    t.like(error.cause, { message: 'the deadline' });
  });

  test('a change that a dead worker claimed and did not begin is taken over, and can then run only once', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const dead = held(await a.first('k'));
    await endAllWorkers(etcd);
    const claim = held(await b.repeated('k'));
    t.false(claim.wasBegun);
    await t.throwsAsync(dead.begin(never), { code: 'service_unavailable' });
    await claim.begin(never);
    await claim.settle(done('by b'), never);
    await dead.settle(done('by a'), never);
    t.is(a.logs.find(/^change outcome not recorded$/).length, 1);
    t.deepEqual(await a.repeated('k'), { state: 'settled', reply: done('by b') });
  });

  test('a change that a dead worker has begun is taken over as that, also by the next one', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const dead = held(await a.first('k'));
    await dead.begin(never);
    await endAllWorkers(etcd);
    const taken = held(await b.repeated('k'));
    t.true(taken.wasBegun);
    await taken.release();
    const again = held(await a.repeated('k'));
    t.true(again.wasBegun, 'what was known is not lost when it is given up');
    await again.settle(done('found out'), never);
    t.deepEqual(await b.repeated('k'), { state: 'settled', reply: done('found out') });
  });

  test('a worker whose lease has ended may still note the outcome when nobody has taken the change', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    await claim.begin(never);
    await endAllWorkers(etcd);
    await claim.settle(done('by a'), never);
    t.deepEqual(await b.repeated('k'), { state: 'settled', reply: done('by a') });
  });

  test('a change that is given up before it begins leaves nothing behind', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    await claim.lockUnit(CLUSTER, 'web.service', never);
    await claim.release();
    t.deepEqual(await keysIn(etcd, '/fleet-manager/claims/'), []);
    t.deepEqual(await keysIn(etcd, '/fleet-manager/units/'), []);
    t.false(held(await b.repeated('k')).wasBegun);
  });

  test('a change that is given up while its beginning is on its way has not begun', async (t) => {
    const etcd = await ownEtcd(t);
    const relay = await relayTo(t, etcd);
    const claim = held(await openStore(t, etcd, { urls: [relay.url] }).first('k'));
    relay.loseResponses();
    const { signal, abort } = aborting();
    const begins = claim.begin(signal);
    await eventually('etcd has it', async () => (await stateIn(etcd)) === 'begun');
    abort();
    await t.throwsAsync(begins, { message: 'the deadline' });
    relay.passResponses();
    await claim.release();
    t.deepEqual(await keysIn(etcd, '/fleet-manager/claims/'), []);
    t.false(held(await openStore(t, etcd).repeated('k')).wasBegun);
  });

  test('a new request that is given up while its claim is on its way leaves the outcome of the one before', async (t) => {
    const etcd = await ownEtcd(t);
    const relay = await relayTo(t, etcd);
    const before = held(await openStore(t, etcd).first('k'));
    await before.begin(never);
    await before.settle(done(1), never);
    const { first } = openStore(t, etcd, { urls: [relay.url] });
    relay.loseResponses();
    const { signal, abort } = aborting();
    const claiming = first('k', signal);
    await eventually('etcd has it', async () => (await stateIn(etcd)) === 'claimed');
    relay.passResponses();
    abort();
    await t.throwsAsync(claiming, { message: 'the deadline' });
    await eventually('it is put back', async () => (await stateIn(etcd)) !== 'claimed');
    t.deepEqual(await openStore(t, etcd).repeated('k'), { state: 'settled', reply: done(1) });
  });

  test('a reply that is too large is not kept, but that the change was made is', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const claim = held(await a.first('k'));
    await claim.begin(never);
    await claim.settle(done('x'.repeat(70_000)), never);
    const [kept] = await keysIn(etcd, '/fleet-manager/claims/');
    t.true((kept?.value.length ?? Number.POSITIVE_INFINITY) < 1_000);
    const again = await b.repeated('k');
    t.like(again, { state: 'settled', reply: { status: 'error', body: { code: 'answer_too_large' } } });
    t.regex(JSON.stringify(again), /The change was made/);
  });

  test('two workers do not change one unit at the same time, and other units are not waited for', async (t) => {
    const { a, b } = await twoWorkers(t);
    const first = held(await a.first('k1'));
    await first.lockUnit(CLUSTER, 'web.service', never);
    const second = held(await b.first('k2'));
    await second.lockUnit(CLUSTER, 'other.service', never);
    const locking = second.lockUnit(CLUSTER, 'web.service', never);
    t.true(await isPending(locking));
    await first.begin(never);
    await first.settle(done(1), never);
    await locking;
    t.pass();
  });

  test('the unit of a dead worker becomes free', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    await held(await a.first('k1')).lockUnit(CLUSTER, 'web.service', never);
    await endAllWorkers(etcd);
    await held(await b.first('k2')).lockUnit(CLUSTER, 'web.service', never);
    t.pass();
  });

  test('a worker that was paused for longer than its lease lives begins nothing that it had claimed', async (t) => {
    const etcd = await ownEtcd(t);
    const clock = new ManualClock();
    const { first } = openStore(t, etcd, { clock });
    const claim = held(await first('k'));
    clock.pass(45_000);
    await t.throwsAsync(claim.begin(never), { code: 'service_unavailable' });
    const reasons: string[] = [];
    claim.onLost(({ code }) => reasons.push(code));
    t.deepEqual(reasons, ['service_unavailable']);
    await held(await first('other')).begin(never);
  });

  test('the outcome of a change that ends after the lease of its worker is noted all the same', async (t) => {
    const etcd = await ownEtcd(t);
    const clock = new ManualClock();
    const claim = held(await openStore(t, etcd, { clock }).first('k'));
    await claim.lockUnit(CLUSTER, 'web.service', never);
    await claim.begin(never);
    clock.pass(45_000);
    await claim.settle(done('late'), never);
    t.deepEqual(await openStore(t, etcd).repeated('k'), { state: 'settled', reply: done('late') });
    t.deepEqual(await keysIn(etcd, '/fleet-manager/units/'), []);
  });

  test('a worker that cannot reach the store is told to stop its changes after a third of its lease', async (t) => {
    const etcd = await ownEtcd(t);
    const clock = new ManualClock();
    const { first } = openStore(t, etcd, { clock });
    const claim = held(await first('k'));
    await claim.begin(never);
    const reasons: string[] = [];
    claim.onLost(({ code }) => reasons.push(code));
    await etcd.stop();
    clock.advance(14_999);
    t.deepEqual(reasons, []);
    clock.advance(1);
    t.deepEqual(reasons, ['service_unavailable']);
  });

  test('a worker that reaches the store keeps its claims for as long as it runs', async (t) => {
    const etcd = await ownEtcd(t);
    const clock = new ManualClock();
    const { first } = openStore(t, etcd, { clock });
    const claim = held(await first('k'));
    const cancel = claim.onLost(() => t.fail('it was told to stop'));
    for (let minutes = 0; minutes < 5; minutes++) {
      for (let seconds = 0; seconds < 60; seconds += 5) {
        const pending = clock.pending;
        clock.advance(5_000);
        await eventually('it is kept alive', () => clock.pending >= pending);
      }
    }
    await claim.begin(never);
    cancel();
    t.pass();
  });

  test('a worker that stops is not waited for', async (t) => {
    const { a, b } = await twoWorkers(t);
    held(await a.first('k'));
    await a.store.stop();
    t.false(held(await b.repeated('k')).wasBegun);
  });

  test('a change that its caller has named is made for one message, and others get its reply', async (t) => {
    const { a, b } = await twoWorkers(t);
    const claim = held(await a.named('n', { message: 'm1' }));
    const waiting = b.named('n', { message: 'm2' });
    t.true(await isPending(waiting));
    await claim.begin(never);
    t.true(await isPending(waiting));
    const eager = b.named('n', { message: 'm3', mayWait: false });
    t.true((await t.throwsAsync(eager, { instanceOf: MadeElsewhere })).isOther);
    await t.throwsAsync(b.named('n', { message: 'm4', asks: 'that' }), { code: 'idempotency_key_reused' });
    const reply = done({ large: 12_345_678_901_234_567_890n });
    await claim.settle(reply, never);
    const replayed = { state: 'settled', reply, replyOf: 'r-m1' } as const;
    t.deepEqual(await waiting, replayed);
    t.deepEqual(await b.named('n', { message: 'm5' }), replayed);
    t.deepEqual(await b.named('n', { message: 'm1', isRepeated: true }), { state: 'settled', reply });
    t.is((await b.named('other', { message: 'm1' })).state, 'held');
    await t.throwsAsync(b.named('n', { message: 'm6', asks: 'that' }), { code: 'idempotency_key_reused' });
  });

  test('of two requests for a named change at the same time, on two workers, one makes it', async (t) => {
    const { a, b } = await twoWorkers(t);
    const make = async (worker: typeof a, message: string) => {
      const claimed = await worker.named('n', { message });
      if (claimed.state === 'settled') return claimed.replyOf;
      await claimed.claim.begin(never);
      await claimed.claim.settle(done(message), never);
      return 'made';
    };
    const messages = Array.from({ length: 6 }, (_, index) => `m${index}`);
    const ends = await Promise.all(messages.map(async (each, index) => make(index % 2 === 0 ? a : b, each)));
    t.is(ends.filter((end) => end === 'made').length, 1);
    t.is(new Set(ends).size, 2);
  });

  test('a named change that was refused, or given up, can be asked for again, also for something else', async (t) => {
    const { a, b } = await twoWorkers(t);
    const refusal: Reply = { status: 'error', body: { errors: ['not now'], code: 'cluster_unreachable' } };
    const refused = held(await a.named('n', { message: 'm1' }));
    await refused.begin(never);
    await refused.settle(refusal, never);
    const again = { state: 'settled', reply: refusal } as const;
    t.deepEqual(await b.named('n', { message: 'm1', isRepeated: true }), again, 'its own message');
    const other = held(await b.named('n', { message: 'm2', asks: 'that' }));
    t.false(other.wasBegun);
    await other.release();
    t.deepEqual(await b.named('n', { message: 'm1', isRepeated: true }), again, 'as it was before');
    const last = held(await b.named('n', { message: 'm3' }));
    await last.begin(never);
    await last.settle(done(3), never);
    t.like(await a.named('n', { message: 'm1', isRepeated: true }), { reply: done(3), replyOf: 'r-m3' });
  });

  test('a named change that a lost worker has begun is taken as that for any message, and what is known of it is kept', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    await held(await a.named('n', { message: 'm1' })).begin(never);
    await endAllWorkers(etcd);
    const taken = held(await b.named('n', { message: 'm2' }));
    t.like(taken, { wasBegun: true, begunFor: 'r-m1' });
    await taken.begin(never);
    await taken.release();
    await held(await b.named('n', { message: 'm2' })).begin(never);
    await endAllWorkers(etcd);
    const again = held(await a.named('n', { message: 'm3' }));
    t.like(again, { wasBegun: true, begunFor: 'r-m1' });
    await again.settle(done('found out'), never);
    for (const message of ['m1', 'm2'])
      t.like(await a.named('n', { message, isRepeated: true }), { reply: done('found out') });
  });

  test('a named change is known for 24 hours after its end, and can be made again then', async (t) => {
    const { etcd, a, b } = await twoWorkers(t);
    const claim = held(await a.named('n', { message: 'm1' }));
    await claim.begin(never);
    await claim.settle(done(1), never);
    const [{ lease } = { lease: '' }] = await keysIn(etcd, '/fleet-manager/claims/');
    const { grantedTTL } = await etcd.post('lease/timetolive', { ID: lease });
    // A lease is used for writes of an hour.
    t.is(Number(grantedTTL), 25 * 3_600);
    await etcd.post('lease/revoke', { ID: lease });
    t.false(held(await b.named('n', { message: 'm2', asks: 'that' })).wasBegun);
  });

  test('nothing but the hash of its key names a request in the store', async (t) => {
    const { etcd, a } = await twoWorkers(t);
    const claim = held(await a.first('secret-key'));
    await claim.begin(never);
    const keys = [
      ...(await keysIn(etcd, '/fleet-manager/claims/')),
      ...(await keysIn(etcd, '/fleet-manager/workers/')),
    ];
    t.is(keys.length, 3);
    t.false(JSON.stringify(keys).includes('secret-key'));
    const { state, action, begunAt } = JSON.parse(keys[0]?.value ?? '{}');
    t.deepEqual([state, action], ['begun', 'act']);
    t.true(Math.abs(Date.parse(begunAt) - Date.now()) < 3_600_000);
  });
}

function aborting(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort(new Error('the deadline')) };
}

/** The state of the only claim; undefined: there is none. */
async function stateIn(etcd: OwnEtcd): Promise<unknown> {
  const [claim] = await keysIn(etcd, '/fleet-manager/claims/');
  return claim && fieldsOf(JSON.parse(claim.value)).state;
}
