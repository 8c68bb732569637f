import test from 'ava';
import { respondWith, serve } from '../../network/http-server.js';
import { notAborted, openNamedFleet, readable } from './open-fleet.js';

const unitIn = (desiredState: string) =>
  respondWith(200, JSON.stringify({ name: 'a.service', desiredState, options: [] }));

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

test('a change tells which host has made it', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster } = openNamedFleet(t, [good.url]);
  const hosts: string[] = [];
  const confirmedBy = (host: string) => hosts.push(host);
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', { ...notAborted(), confirmedBy });
  t.deepEqual(hosts, [good.url.host]);
});
