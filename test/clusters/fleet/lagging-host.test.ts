import test from 'ava';
import { respondWith, serve } from '../../network/http-server.js';
import { notAborted, openNamedFleet, readable } from './open-fleet.js';

const unitIn = (desiredState: string) =>
  respondWith(200, JSON.stringify({ name: 'a.service', desiredState, options: [] }));

const MACHINES = respondWith(200, { machines: [{ id: 'a' }] });

test('a unit is read from the host whose answer is accepted', async (t) => {
  const old = await serve(t, unitIn('loaded'));
  const present = await serve(t, unitIn('launched'));
  const { fleet, cluster } = openNamedFleet(t, [old.url, present.url]);
  const asked: string[] = [];
  const unit = await fleet.unit(cluster, 'a.service', {
    ...notAborted(),
    accepts: (each, host) => {
      asked.push(host);
      return each?.desiredState === 'launched';
    },
  });
  t.is(unit?.desiredState, 'launched');
  t.deepEqual(asked, [old.url.host, present.url.host]);
});

test('when no answer is accepted, the read fails', async (t) => {
  const old = await serve(t, unitIn('loaded'));
  const { fleet, cluster } = openNamedFleet(t, [old.url]);
  await t.throwsAsync(fleet.unit(cluster, 'a.service', { ...notAborted(), accepts: () => false }), {
    message: /its answer is not known to be new enough/,
  });
});

for (const [what, index] of [
  ['first', 0],
  ['last', 1],
] as const)
  test(`a list that is wanted from the ${what} host is read from no other, also when that one fails`, async (t) => {
    const servers = [await serve(t, MACHINES), await serve(t, MACHINES)] as const;
    const { fleet, cluster } = openNamedFleet(
      t,
      servers.map(({ url }) => url),
    );
    const wanted = servers[index];
    const options = { ...notAborted(), from: wanted.url.host };
    t.is((await fleet.machines(cluster, options)).length, 1);
    await wanted.stop();
    await t.throwsAsync(fleet.machines(cluster, options), { code: 'cluster_unreachable' });
    t.is(servers[1 - index]?.requests.length, 0);
  });

test('a change tells which host has made it', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster } = openNamedFleet(t, [good.url]);
  const hosts: string[] = [];
  const confirmedBy = (host: string) => hosts.push(host);
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', { ...notAborted(), confirmedBy });
  t.deepEqual(hosts, [good.url.host]);
});

test('a change that fleet refuses was made by no host', async (t) => {
  const refusing = await serve(t, readable(respondWith(409, { error: { code: 409, message: 'no' } })));
  const { fleet, cluster } = openNamedFleet(t, [refusing.url]);
  const confirmedBy = () => t.fail();
  await t.throwsAsync(
    fleet.setDesiredState(cluster, 'a.service', 'loaded', { ...notAborted(), confirmedBy }),
    { code: 'unit_not_found' },
  );
});
