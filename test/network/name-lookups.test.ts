import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { HostPolicy } from '../../src/network/connection-policy.js';
import { NameLookups } from '../../src/network/name-lookups.js';

const forever = new AbortController().signal;

/** Lookups that respond when the test says so; `begun` lists the names that were looked up. */
function heldLookups() {
  const begun: string[] = [];
  const respond = new Map<string, (address: string) => void>();
  const lookups = new NameLookups((host) => {
    begun.push(host);
    return new Promise((resolve) => respond.set(host, (address) => resolve([{ address }])));
  });
  return { lookups, begun, respond };
}

test('one name is looked up at a time, so that a lookup of Node remains for the names of the operator', async (t) => {
  const { lookups, begun, respond } = heldLookups();
  const [first, second] = ['a.test', 'b.test'].map((host) => lookups.addresses(host, forever));
  await setImmediate();
  t.deepEqual(begun, ['a.test']);
  respond.get('a.test')?.('10.0.0.1');
  t.deepEqual(await first, ['10.0.0.1']);
  await setImmediate();
  t.deepEqual(begun, ['a.test', 'b.test']);
  respond.get('b.test')?.('10.0.0.2');
  t.deepEqual(await second, ['10.0.0.2']);
});

test('a lookup that was abandoned while it waited is never begun', async (t) => {
  const { lookups, begun, respond } = heldLookups();
  const first = lookups.addresses('silent.test', forever);
  const gone = new AbortController();
  const abandoned = Array.from({ length: 60 }, (_, at) => lookups.addresses(`n${at}.test`, gone.signal));
  const last = lookups.addresses('last.test', forever);
  gone.abort(new Error('too late'));
  for (const each of await Promise.allSettled(abandoned)) t.is(each.status, 'rejected');
  respond.get('silent.test')?.('10.0.0.1');
  await first;
  await setImmediate();
  t.deepEqual(begun, ['silent.test', 'last.test']);
  respond.get('last.test')?.('10.0.0.2');
  t.deepEqual(await last, ['10.0.0.2']);
});

test('calls for the same name share one lookup, and one that leaves does not end it for the others', async (t) => {
  const { lookups, begun, respond } = heldLookups();
  const first = lookups.addresses('first.test', forever);
  const gone = new AbortController();
  const leaving = lookups.addresses('a.test', gone.signal);
  const staying = lookups.addresses('a.test', forever);
  gone.abort(new Error('gone'));
  await t.throwsAsync(leaving, { message: 'gone' });
  respond.get('first.test')?.('10.0.0.1');
  await first;
  await setImmediate();
  t.deepEqual(begun, ['first.test', 'a.test']);
  const joining = lookups.addresses('a.test', forever);
  respond.get('a.test')?.('10.0.0.2');
  t.deepEqual(await Promise.all([staying, joining]), [['10.0.0.2'], ['10.0.0.2']]);
  t.is(begun.length, 2);
});

test('a name is looked up anew after its lookup has ended, also when it was abandoned', async (t) => {
  const { lookups, begun, respond } = heldLookups();
  const first = lookups.addresses('first.test', forever);
  const gone = new AbortController();
  const abandoned = lookups.addresses('a.test', gone.signal);
  gone.abort(new Error('gone'));
  const again = lookups.addresses('a.test', forever);
  await t.throwsAsync(abandoned, { message: 'gone' });
  respond.get('first.test')?.('10.0.0.1');
  await first;
  await setImmediate();
  respond.get('a.test')?.('10.0.0.2');
  t.deepEqual(await again, ['10.0.0.2']);
  const anew = lookups.addresses('a.test', forever);
  await setImmediate();
  respond.get('a.test')?.('10.0.0.3');
  t.deepEqual(await anew, ['10.0.0.3']);
  t.deepEqual(begun, ['first.test', 'a.test', 'a.test']);
});

test('after a lookup that failed, the next one is begun', async (t) => {
  const lookups = new NameLookups(async (host) => {
    if (host === 'bad.test') throw new Error('no such host');
    return [{ address: '10.0.0.1' }];
  });
  const bad = lookups.addresses('bad.test', forever);
  const good = lookups.addresses('good.test', forever);
  await t.throwsAsync(bad, { message: 'no such host' });
  t.deepEqual(await good, ['10.0.0.1']);
});

test('a policy stops waiting for a name when its signal is aborted', async (t) => {
  const policy = new HostPolicy(undefined, () => new Promise(() => {}));
  const gone = new AbortController();
  const resolving = policy.resolve('silent.test', gone);
  const reason = new Error('gone');
  gone.abort(reason);
  t.is(await t.throwsAsync(resolving), reason);
});
