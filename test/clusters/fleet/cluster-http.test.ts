import test from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { ClusterHttp } from '../../../src/clusters/fleet/cluster-http.js';
import { HttpClient } from '../../../src/network/http-client.js';
import { respondWith, serve } from '../../network/http-server.js';
import { ManualClock } from '../../support/manual-clock.js';
import { notAborted, openNamedFleet, readable } from './open-fleet.js';

test('a mistake in the code that reads a response is not taken for a failure of the host', async (t) => {
  const server = await serve(t, respondWith(200, {}));
  const http = new HttpClient();
  t.teardown(() => http.close());
  const mistake = new TypeError('a mistake');
  const read = new ClusterHttp(http, new ManualClock()).read(new Cluster('a'), [server.url], {
    path: 'machines',
    hedgeMs: 500,
    read: () => {
      throw mistake;
    },
    ...notAborted(),
  });
  t.is(await t.throwsAsync(read), mistake);
});

test('every response of a host shows that the cluster responds, whatever it is', async (t) => {
  const refusal = { error: { code: 400, message: 'no' } };
  const server = await serve(t, readable(respondWith(400, refusal)));
  const failing = await serve(t, respondWith(503));
  let responses = 0;
  const cluster = new Cluster('named', () => responses++);
  const { fleet } = openNamedFleet(t, [server.url]);
  await fleet.machines(cluster, notAborted());
  t.is(responses, 1);
  await t.throwsAsync(fleet.destroyUnit(cluster, 'a.service', notAborted()), { code: 'cluster_refused' });
  t.is(responses, 2);
  await t.throwsAsync(openNamedFleet(t, [failing.url]).fleet.machines(cluster, notAborted()));
  t.is(responses, 3);
});
