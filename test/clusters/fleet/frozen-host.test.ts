import test, { type ExecutionContext } from 'ava';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { startFrozenServer } from '../../support/frozen-server.js';
import { notAborted, openFleet, openNamedFleet, readable, THREE_HOSTS } from './open-fleet.js';

const HEDGE_MS = 500;
const PAGE_HEDGE_MS = 1_000;
const MACHINE = { id: 'a'.repeat(32) };

/** The URL of a fleet API that is frozen. */
async function frozenFleet(t: ExecutionContext): Promise<URL> {
  return new URL(`http://127.0.0.1:${await startFrozenServer(t)}`);
}

test('a frozen fleetd costs a read half a second, and the next one nothing', async (t) => {
  const good = await serve(t, respondWith(200, { name: 'a.service' }));
  const { fleet, cluster, clock } = openNamedFleet(t, [await frozenFleet(t), good.url]);
  const first = fleet.unit(cluster, 'a.service', notAborted());
  await eventually('the frozen host is asked', () => clock.pending === 1);
  clock.advance(HEDGE_MS - 1);
  t.is(good.requests.length, 0);
  clock.advance(1);
  t.is((await first)?.name, 'a.service');
  t.is((await fleet.unit(cluster, 'a.service', notAborted()))?.name, 'a.service');
  t.is(clock.pending, 0);
  t.is(good.requests.length, 2);
});

test('a host has 20 seconds for a call, and 3 seconds or less when all hosts are asked', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster, timeLimits } = openNamedFleet(t, [good.url]);
  await fleet.machines(cluster, notAborted());
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  await fleet.hosts(cluster, notAborted());
  await fleet.hosts(cluster, { ...notAborted(), timeoutMs: 5_000 });
  await fleet.hosts(cluster, { ...notAborted(), timeoutMs: 1_000 });
  t.deepEqual(timeLimits, [20_000, 20_000, 3_000, 3_000, 1_000]);
});

test('a change goes to a host that is not known to be frozen', async (t) => {
  const good = await serve(t, respondWith(200, { name: 'a.service' }));
  const { fleet, cluster, clock } = openNamedFleet(t, [await frozenFleet(t), good.url]);
  const read = fleet.unit(cluster, 'a.service', notAborted());
  await eventually('the frozen host is asked', () => clock.pending === 1);
  clock.advance(HEDGE_MS);
  await read;
  t.true(await fleet.destroyUnit(cluster, 'a.service', notAborted()).catch(() => true));
  t.deepEqual(
    good.requests.map(({ method }) => method),
    ['GET', 'DELETE'],
  );
});

test('a change costs half a second when nothing is known of the hosts and the first one is frozen', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster, clock } = openNamedFleet(t, [await frozenFleet(t), good.url]);
  const change = fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  await eventually('the frozen host is asked', () => clock.pending === 1);
  clock.advance(HEDGE_MS);
  await change;
  t.deepEqual(
    good.requests.map(({ method }) => method),
    ['GET', 'PUT'],
  );
});

test('a host that responded a moment ago gets a change at once; later it is asked first whether it responds', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster, clock } = openNamedFleet(t, [good.url]);
  await fleet.machines(cluster, notAborted());
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  // A change is a response too.
  for (let times = 0; times < 2; times++) {
    clock.advance(1_999);
    await fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  }
  clock.advance(2_000);
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  t.deepEqual(
    good.requests.map(({ method }) => method),
    ['GET', 'PUT', 'PUT', 'PUT', 'GET', 'PUT'],
  );
});

test('a page that a host does not answer is read from another one, and the later pages too', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
  sandbox.cluster.addUnits(500);
  await fleet.machines(cluster, notAborted());
  const silent = sandbox.cluster.requests[0]?.host;
  sandbox.cluster.fail({ kind: 'hang', host: silent });
  sandbox.cluster.requests.length = 0;
  const units = fleet.units(cluster, notAborted());
  await eventually('the silent host is asked', () => sandbox.cluster.requests.length === 1);
  clock.advance(PAGE_HEDGE_MS);
  t.is((await units).length, 500);
  t.is(sandbox.cluster.requests.filter(({ host }) => host === silent).length, 1);
});

test('a host whose first page took long gets four times as long for each further one', async (t) => {
  const pageOf = (url = '') =>
    url.includes('nextPageToken')
      ? { units: [{ name: 'b.service' }] }
      : { units: [{ name: 'a.service' }], nextPageToken: 'second' };
  const held: (() => void)[] = [];
  const slow = await serve(t, (request, response) => {
    held.push(() => response.end(JSON.stringify(pageOf(request.url))));
  });
  const quick = await serve(t, (request, response) => response.end(JSON.stringify(pageOf(request.url))));
  const { fleet, cluster, clock } = openNamedFleet(t, [slow.url, quick.url]);
  const units = fleet.units(cluster, notAborted());
  await eventually('the first page is asked for', () => held.length === 1);
  clock.advance(900);
  held.shift()?.();
  await eventually('the second page is asked for', () => held.length === 1);
  clock.advance(3_599);
  t.is(clock.pending, 1, 'it is still waited for the slow host');
  clock.advance(1);
  t.is((await units).length, 2);
  t.true(quick.requests.length > 0);
});

test('a cancelled request is ended down to its connection', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  await fleet.machines(cluster, notAborted());
  const silent = sandbox.cluster.requests[0]?.host;
  const end = sandbox.cluster.fail({ kind: 'hang', host: silent });
  const machines = fleet.machines(cluster, notAborted());
  await eventually('the silent host is asked', () => sandbox.cluster.requests.length === 2);
  clock.advance(PAGE_HEDGE_MS);
  t.is((await machines).length, 3);
  await end();
  await eventually('no request is in progress but the new one', async () => {
    await fleet.machines(cluster, notAborted());
    return sandbox.cluster.requests.at(-1)?.concurrent === 1;
  });
});

test('a host that was silent is tried again when the others fail, without waiting for its time', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  await fleet.machines(cluster, notAborted());
  const silent = sandbox.cluster.requests[0]?.host;
  const end = sandbox.cluster.fail({ kind: 'hang', host: silent });
  const machines = fleet.machines(cluster, notAborted());
  await eventually('the silent host is asked', () => sandbox.cluster.requests.length === 2);
  clock.advance(PAGE_HEDGE_MS);
  await machines;
  await end();
  for (const host of THREE_HOSTS) if (host !== silent) sandbox.cluster.fail({ kind: '500', host });
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
  t.is(sandbox.cluster.requests.at(-1)?.host, silent);
});

test('when the host that served fails, one that failed before is asked rather than one that was silent', async (t) => {
  const states = { y: 500, x: 200 };
  const answering = (name: 'x' | 'y') =>
    serve(t, (_request, response) => {
      response.statusCode = states[name];
      response.end(JSON.stringify({ name: 'a.service' }));
    });
  const [y, x] = [await answering('y'), await answering('x')];
  const silent = await serve(t, () => {});
  const { fleet, cluster, clock } = openNamedFleet(t, [y.url, silent.url, x.url]);
  const first = fleet.unit(cluster, 'a.service', notAborted());
  await eventually('the silent host is asked', () => silent.requests.length === 1);
  clock.advance(HEDGE_MS);
  await first;
  Object.assign(states, { y: 200, x: 500 });
  t.is((await fleet.unit(cluster, 'a.service', notAborted()))?.name, 'a.service');
  t.is(silent.requests.length, 1);
});

test('a change is never sent to a second host while the first one may have it', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  const [name = ''] = sandbox.cluster.addUnits(1);
  sandbox.cluster.fail({ kind: 'hang', method: 'PUT' });
  const caller = new AbortController();
  const change = fleet.setDesiredState(cluster, name, 'loaded', caller);
  const changes = () => sandbox.cluster.requests.filter(({ method }) => method === 'PUT');
  await eventually('a host has it', () => changes().length === 1);
  clock.advance(60_000);
  for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
  t.is(changes().length, 1);
  caller.abort(new Error('gone'));
  await t.throwsAsync(change, { code: 'outcome_unknown' });
});

test('a frozen host and one that refuses cost no more than the frozen one alone', async (t) => {
  const good = await serve(t, respondWith(200, { machines: [MACHINE] }));
  const refusing = new URL('http://127.0.0.1:1');
  const { fleet, cluster, clock } = openNamedFleet(t, [await frozenFleet(t), refusing, good.url]);
  const machines = fleet.machines(cluster, notAborted());
  await eventually('the frozen host is asked', () => clock.pending === 1);
  clock.advance(PAGE_HEDGE_MS);
  t.is((await machines).length, 1);
});

test('a list with a row that cannot be read waits two seconds for a second opinion of a frozen host, and its other pages no longer', async (t) => {
  const odd = { name: 'odd.service', options: [{ section: 'Unit', name: 'x', value: 5 }] };
  const good = await serve(t, (request, response) => {
    const first = !request.url?.includes('nextPageToken');
    const page = first ? { units: [odd], nextPageToken: 'two' } : { units: [odd, { name: 'a.service' }] };
    respondWith(200, page)(request, response);
  });
  const silent = await serve(t, () => {});
  const { fleet, cluster, clock } = openNamedFleet(t, [good.url, silent.url]);
  const warnings: string[] = [];
  const units = fleet.units(cluster, { ...notAborted(), warn: (text) => warnings.push(text) });
  // Pages that cannot overlap are read twice.
  for (let pages = 1; pages <= 4; pages++) {
    await eventually('a second opinion is awaited', () => silent.requests.length === pages);
    clock.advance(2 * PAGE_HEDGE_MS - 1);
    for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
    t.is(good.requests.length, pages);
    clock.advance(1);
  }
  t.deepEqual(
    (await units).map(({ name }) => name),
    ['a.service'],
  );
  t.is(warnings.length, 1);
});

test('a frozen host costs many reads at once hardly more than one: when one has found it out, the others ask elsewhere', async (t) => {
  const silent = await serve(t, () => {});
  const good = await serve(t, (request, response) => {
    response.end(JSON.stringify({ name: request.url?.split('/').at(-1) }));
  });
  const { fleet, cluster, clock } = openNamedFleet(t, [silent.url, good.url]);
  const names = Array.from({ length: 20 }, (_, index) => `${index}.service`);
  const reads = names.map(async (name) => fleet.unit(cluster, name, notAborted()));
  await eventually('the frozen host is asked', () => silent.requests.length === names.length);
  clock.advance(HEDGE_MS);
  await eventually('a hedge is answered', () => good.requests.length > 0 && clock.pending < names.length);
  for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
  clock.advance(HEDGE_MS);
  const units = await Promise.all(reads);
  t.deepEqual(
    units.map((unit) => unit?.name),
    names,
  );
});

test('on a cluster that takes long now and then, few reads are sent to a second host', async (t) => {
  let calls = 0;
  const held: (() => void)[] = [];
  const slowNowAndThen = () =>
    serve(t, (_request, response) => {
      const respond = () => response.end(JSON.stringify({ name: 'a.service' }));
      if (++calls % 5 === 0) held.push(respond);
      else respond();
    });
  const hosts = [await slowNowAndThen(), await slowNowAndThen(), await slowNowAndThen()];
  const { fleet, cluster, clock } = openNamedFleet(
    t,
    hosts.map(({ url }) => url),
  );
  const READS = 400;
  for (let read = 0; read < READS; read++) {
    let done = false;
    const reading = fleet.unit(cluster, 'a.service', notAborted()).then(() => (done = true));
    await eventually('it is answered or takes long', () => done || held.length > 0);
    if (!done) {
      clock.advance(HEDGE_MS);
      for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
      for (const respond of held.splice(0)) respond();
    }
    await reading;
  }
  t.true(calls > READS, 'some are');
  t.true(calls <= READS * 1.05, `${calls} calls for ${READS} reads`);
});
