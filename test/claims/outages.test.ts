import test from 'ava';
import { checkClaims } from '../../src/commands/check-claims.js';
import { respondWith, serve } from '../network/http-server.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { hasEtcd, ownEtcd, withUser } from '../support/own-etcd.js';
import { startProxy } from '../support/proxy.js';
import { done, held, keysIn, never, openStore } from './open-store.js';
import { relayTo } from './relay.js';

const CHECK_MS = 60_000;

if (hasEtcd) {
  test('while the store is away, a first change is refused, and one that was delivered before waits for the store', async (t) => {
    const etcd = await ownEtcd(t);
    const { first, repeated, logs } = openStore(t, etcd);
    const claim = held(await first('k'));
    await claim.begin(never);
    await claim.settle(done(1), never);
    await etcd.stop();
    const error = await t.throwsAsync(first('other'), { code: 'service_unavailable' });
    t.regex(error?.message ?? '', /^The change was not begun: the claim store.*ECONNREFUSED/);
    const again = repeated('k');
    await eventually('the outage is logged', () => logs.find(/^claim store lost$/).length === 1);
    await etcd.start();
    t.deepEqual(await again, { state: 'settled', reply: done(1) });
    t.is(logs.find(/^claim store lost$/).length, 1);
    t.is(logs.find(/^claim store restored$/).length, 1);
    await held(await first('other')).begin(never);
  });

  test('a store that does not answer is given up, and what it has written all the same is removed', async (t) => {
    const etcd = await ownEtcd(t);
    const proxy = await startProxy(t, { port: Number(new URL(etcd.url).port) });
    const { first } = openStore(t, etcd, { urls: [`http://127.0.0.1:${proxy.port}`] });
    await held(await first('other')).release();
    const claims = async () => (await keysIn(etcd, '/fleet-manager/claims/')).length;
    proxy.swallow();
    const error = await t.throwsAsync(first('k'), { code: 'service_unavailable' });
    t.regex(error?.message ?? '', /no response within 5000 ms/);
    await eventually('nothing is claimed', async () => (await claims()) === 0);
    await held(await first('k')).begin(never);
  });

  test('a frozen store is given up, and used again when it goes on', async (t) => {
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd);
    await held(await first('k')).release();
    etcd.freeze();
    await t.throwsAsync(first('k'), { code: 'service_unavailable' });
    etcd.thaw();
    await held(await first('k')).begin(never);
  });

  for (const key of ['k', undefined])
    for (const end of ['settle', 'release'] as const)
      test(`a lock that arrives when its change has ended, by ${end}, locks nothing${key === undefined ? ', also without a key' : ''}`, async (t) => {
        const etcd = await ownEtcd(t);
        const relay = await relayTo(t, etcd);
        const { first } = openStore(t, etcd, { urls: [relay.url] });
        const claim = held(await first(key));
        const late = relay.holdLocks();
        const caller = new AbortController();
        const locking = claim.lockUnit(undefined, 'web.service', caller.signal);
        await eventually('it is on its way', () => late.count() === 1);
        caller.abort(new Error('no longer'));
        await t.throwsAsync(locking, { message: 'no longer' });
        await (end === 'settle' ? claim.settle(done(1), never) : claim.release());
        await late.pass();
        t.deepEqual(await keysIn(etcd, '/fleet-manager/units/'), []);
      });

  test('a change without a key leaves nothing in the store when it has ended', async (t) => {
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd);
    const claim = held(await first(undefined));
    await claim.lockUnit(undefined, 'web.service', never);
    await claim.begin(never);
    await claim.settle(done(1), never);
    t.deepEqual(await keysIn(etcd, '/fleet-manager/claims/'), []);
    t.deepEqual(await keysIn(etcd, '/fleet-manager/units/'), []);
  });

  test('an outcome that cannot be written while the store is away is written later, and its caller does not wait for it', async (t) => {
    const etcd = await ownEtcd(t);
    const clock = new ManualClock();
    const a = openStore(t, etcd, { clock });
    const claim = held(await a.first('k'));
    await claim.lockUnit(undefined, 'web.service', never);
    await claim.begin(never);
    await etcd.stop();
    const settling = claim.settle(done('late'), never);
    await eventually('it waits', () => clock.pending > 0);
    clock.advance(5_000);
    await settling;
    await etcd.start();
    const b = openStore(t, etcd);
    const reading = b.repeated('k');
    const timer = setInterval(() => clock.advance(500), 20);
    t.teardown(() => clearInterval(timer));
    t.deepEqual(await reading, { state: 'settled', reply: done('late') });
    await eventually(
      'the unit is free',
      async () => (await keysIn(etcd, '/fleet-manager/units/')).length === 0,
    );
  });

  test('claims outlive a restart of the store', async (t) => {
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd);
    const claim = held(await first('k'));
    await etcd.stop();
    await etcd.start();
    await claim.begin(never);
    t.pass();
  });

  test('a store that has lost its data is used again', async (t) => {
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd);
    const claim = held(await first('k'));
    await claim.settle(done(1), never);
    for (const { lease } of [
      ...(await keysIn(etcd, '/fleet-manager/claims/')),
      ...(await keysIn(etcd, '/fleet-manager/workers/')),
    ])
      await etcd.post('lease/revoke', { ID: lease });
    await held(await first('k')).begin(never);
    t.pass();
  });

  test('a member that does not respond is passed over', async (t) => {
    const etcd = await ownEtcd(t);
    const { first } = openStore(t, etcd, { urls: ['http://127.0.0.1:1', etcd.url] });
    await held(await first('k')).begin(never);
    t.pass();
  });

  test('another program in place of the store is noticed, whatever it answers', async (t) => {
    const etcd = await ownEtcd(t);
    for (const body of [
      '',
      '<html>',
      '[]',
      '{}',
      '{"header":{}}',
      '{"ID":1}',
      '{"ID":"7","TTL":"30"}',
      'null',
    ]) {
      const { url } = await serve(t, respondWith(200, body));
      const { first } = openStore(t, etcd, { urls: [url.href] });
      const error = await t.throwsAsync(first('k'), { code: 'service_unavailable' });
      t.regex(error?.message ?? '', /it is no response of etcd/, body);
    }
  });

  test('with a user and a password, also after a restart of the store, which forgets who was logged in', async (t) => {
    const etcd = await ownEtcd(t);
    const user = await withUser(etcd);
    const { store, first, repeated } = openStore(t, etcd, user);
    await claimAndSettle();
    await etcd.stop();
    await etcd.start();
    t.deepEqual(await repeated('k'), { state: 'settled', reply: done(1) });
    t.like(await checkClaims(store, [etcd.url], CHECK_MS), { result: 'ok' });

    async function claimAndSettle(): Promise<void> {
      const claim = held(await first('k'));
      await claim.lockUnit(undefined, 'web.service', never);
      await claim.begin(never);
      await claim.settle(done(1), never);
    }
  });

  test('a store that refuses the login, or the keys, is as good as away, and says so without the password', async (t) => {
    const etcd = await ownEtcd(t);
    await withUser(etcd);
    const root = await etcd.post('auth/authenticate', { name: 'root', password: 'root' });
    await etcd.post('auth/user/add', { name: 'guest', password: 'Zqsecret' }, String(root.token));
    for (const [user, reason] of [
      [{ user: 'worker', password: 'Zqwrong' }, /authentication failed/],
      [{ user: 'guest', password: 'Zqsecret' }, /permission denied/],
      [{}, /user name is empty/],
    ] as const) {
      const { store, first, logs } = openStore(t, etcd, user);
      const error = await t.throwsAsync(first('k'), { code: 'service_unavailable' });
      t.regex(error?.message ?? '', reason);
      const found = await checkClaims(store, [etcd.url], CHECK_MS);
      t.is(found.result, 'FAILED');
      t.regex(found.lines.join('\n'), reason);
      t.false(JSON.stringify([error?.message, found, logs.lines]).includes('Zq'));
    }
  });

  test('over TLS with an authority of its own, and not without it', async (t) => {
    const etcd = await ownEtcd(t, { tls: true });
    const { store, first } = openStore(t, etcd);
    await held(await first('k')).begin(never);
    t.like(await checkClaims(store, [etcd.url], CHECK_MS), { result: 'ok' });
    const { first: untrusted } = openStore(t, etcd, { ca: undefined });
    const error = await t.throwsAsync(untrusted('other'), { code: 'service_unavailable' });
    t.regex(error?.message ?? '', /CERT|UNABLE_TO_VERIFY/);
  });

  test('the check of the store changes nothing in it', async (t) => {
    const etcd = await ownEtcd(t);
    const { store } = openStore(t, etcd);
    await eventually(
      'the worker shows itself',
      async () => (await keysIn(etcd, '/fleet-manager/')).length === 1,
    );
    const before = await keysIn(etcd, '/fleet-manager/');
    t.like(await checkClaims(store, [etcd.url], CHECK_MS), { result: 'ok' });
    t.deepEqual(await keysIn(etcd, '/fleet-manager/'), before);
  });
}
