import test from 'ava';
import type { ActionError } from '../../../src/api/action-error.js';
import { Cluster } from '../../../src/api/cluster.js';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { notAborted, openFleet, openNamedFleet, pagesAt, THREE_HOSTS } from './open-fleet.js';

const MINUTE = 60_000;

for (const kind of ['refuse', 'hang', '500', '503', 'drop', 'drop-answer', 'truncate'] as const) {
  for (const good of THREE_HOSTS) {
    test(`when the other hosts respond with ${kind}, ${good} is used`, async (t) => {
      const bad = THREE_HOSTS.filter((host) => host !== good);
      const hanging = kind === 'hang' ? bad : [];
      const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, hanging });
      for (const host of bad) sandbox.cluster.fail({ kind, host });
      t.is((await fleet.machines(cluster, notAborted())).length, 3);
      t.is(sandbox.cluster.requests.filter(({ host }) => host === good).length, 1);
    });
  }
}

test('a dead member that discovery still lists is ignored', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.cluster.members = ['dead=http://127.0.0.9:2380', 'alive=http://127.0.0.1:2380'];
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
});

test('the host that responded is used from then on, another one only when it fails', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  const { requests } = sandbox.cluster;
  const ask = async () => {
    // Each time discovery lists the hosts again, in random order.
    clock.advance(MINUTE);
    requests.length = 0;
    await fleet.machines(cluster, notAborted());
    return [...new Set(requests.map(({ host }) => host))];
  };
  const [first = ''] = await ask();
  for (let times = 0; times < 10; times++) t.deepEqual(await ask(), [first]);

  const end = sandbox.cluster.fail({ kind: '500', host: first });
  const [failed, second = ''] = await ask();
  t.is(failed, first);
  t.not(second, first);
  for (let times = 0; times < 10; times++) t.deepEqual(await ask(), [second]);

  await end();
  t.deepEqual(await ask(), [second], 'there is no way back without need');
});

for (const change of [false, true]) {
  const what = change ? 'a change' : 'a read';
  test(`after giving up on a silent host, ${what} is served by another when it is tried again`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    const [name = ''] = sandbox.cluster.addUnits(1);
    await fleet.machines(cluster, notAborted());
    const silent = sandbox.cluster.requests[0]?.host;
    sandbox.cluster.fail({ kind: 'hang', host: silent });
    const call = async (signal: AbortSignal) =>
      change
        ? fleet.setDesiredState(cluster, name, 'loaded', { signal })
        : fleet.unit(cluster, name, { signal });
    const impatient = new AbortController();
    const first = t.throwsAsync(call(impatient.signal));
    await eventually('the silent host has the request', () => sandbox.cluster.requests.length === 2);
    impatient.abort(new Error('no patience'));
    await first;
    await call(notAborted().signal);
    t.is(sandbox.cluster.requests[1]?.host, silent);
    t.not(sandbox.cluster.requests[2]?.host, silent);
  });
}

test('reading many pages does not count against the host that serves them', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
  sandbox.cluster.addUnits(261);
  // Pages past the last, which are abandoned when that has been read.
  sandbox.cluster.fail({ kind: 'hang', path: pagesAt(276, 368, 460) });
  for (let times = 0; times < 5; times++) {
    await fleet.units(cluster, notAborted());
    // So that what becomes of the pages that were abandoned is known.
    for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
  }
  t.is(new Set(sandbox.cluster.requests.map(({ host }) => host)).size, 1);
});

test('the preferred host is remembered for each cluster separately', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  const other = await sandbox.addCluster('other', { machines: [] });
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
  t.is((await fleet.machines(new Cluster('other'), notAborted())).length, 0);
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
  t.is(other.requests.length, 1);
});

test('when no host can be reached, the cluster is unreachable, and each host was tried once', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  sandbox.cluster.fail({ kind: 'drop' });
  const error = await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'cluster_unreachable' });
  t.deepEqual(sandbox.cluster.requests.map(({ host }) => host).toSorted(), THREE_HOSTS);
  const { hosts } = (error as { details?: { hosts: { host: string; reason: string }[] } }).details ?? {
    hosts: [],
  };
  t.deepEqual(
    hosts.map(({ host }) => host).toSorted(),
    THREE_HOSTS.map((host) => `${host}:${sandbox.fleetPort}`),
  );
  for (const { host } of hosts) t.true(error?.message.includes(host));
});

test('the error names for each host why it gave no response', async (t) => {
  const hanging = ['127.0.0.2'];
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, hanging });
  sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.1' });
  sandbox.cluster.fail({ kind: 'hang', host: '127.0.0.2' });
  sandbox.cluster.fail({ kind: 'drop', host: '127.0.0.3' });
  const error = await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'cluster_unreachable' });
  t.regex(error?.message ?? '', /127\.0\.0\.1:\d+: ECONNREFUSED/);
  t.regex(error?.message ?? '', /127\.0\.0\.2:\d+: no response within 500 ms/);
  t.regex(error?.message ?? '', /127\.0\.0\.3:\d+: UND_ERR_SOCKET/);
});

for (const [count, more] of [
  [2, ''],
  [5, ''],
  [6, ', and 1 more'],
  [22, ', and 17 more'],
] as const)
  test(`of ${count} hosts that cannot be reached the error names the first five, and its details the first 20`, async (t) => {
    const reason = 'HTTP clients do not use this port (Fetch standard, bad port)';
    const hosts = Array.from({ length: count }, (_, at) => `127.0.0.${at + 1}:1`);
    const { fleet, cluster } = openNamedFleet(
      t,
      hosts.map((host) => new URL(`http://${host}`)),
    );
    const named = hosts.slice(0, 5).map((host) => `${host}: ${reason}`);
    const error = await t.throwsAsync<ActionError>(fleet.machines(cluster, notAborted()), {
      code: 'cluster_unreachable',
      message: `No fleet API of the cluster can be reached (${named.join(', ')}${more})`,
    });
    t.deepEqual(error?.details, { hosts: hosts.slice(0, 20).map((host) => ({ host, reason })) });
  });

for (const kind of ['500', '503'] as const) {
  test(`when every host responds with ${kind}, the cluster is unhealthy`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    sandbox.cluster.fail({ kind });
    const error = await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_unhealthy' });
    t.true(error?.message.includes(`HTTP ${kind}`));
    t.is(sandbox.cluster.requests.length, 3);
  });
}

test('a cluster in which one host responds with 500 and the others not at all is unhealthy', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  sandbox.cluster.fail({ kind: '500', host: '127.0.0.2' });
  sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.1' });
  sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.3' });
  await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_unhealthy' });
});

test('a 5xx from a tunnel is not a response from fleet, so another host is tried', async (t) => {
  for (const status of [500, 502, 504]) {
    const tunnel = await serve(t, respondWith(status, '<html>Bad Gateway'));
    const good = await serve(t, respondWith(200, { machines: [{ id: 'a'.repeat(32) }] }));
    const { fleet, cluster } = openNamedFleet(t, [tunnel.url, good.url]);
    t.is((await fleet.machines(cluster, notAborted())).length, 1);
    const alone = openNamedFleet(t, [tunnel.url]);
    await t.throwsAsync(alone.fleet.machines(alone.cluster, notAborted()), { code: 'cluster_unhealthy' });
  }
});

for (const [kind, code] of [
  ['refuse', 'cluster_unreachable'],
  ['redirect', 'cluster_answer_invalid'],
  ['503', 'cluster_unhealthy'],
] as const) {
  test(`after ${kind} by all hosts discovery is queried again, so that a moved cluster is found immediately`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    sandbox.cluster.members = ['node1=http://127.0.0.1:2380'];
    t.is((await fleet.machines(cluster, notAborted())).length, 3);
    sandbox.cluster.fail({ kind, host: '127.0.0.1' });
    sandbox.cluster.members = ['node2=http://127.0.0.2:2380'];
    await t.throwsAsync(fleet.machines(cluster, notAborted()), { code });
    t.is((await fleet.machines(cluster, notAborted())).length, 3);
  });
}

test('after all hosts were forbidden discovery is queried again, so that a moved cluster is found immediately', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, {
    fleetHosts: THREE_HOSTS,
    allowedHosts: ['127.0.0.2'],
  });
  sandbox.cluster.members = ['node1=http://127.0.0.1:2380'];
  await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'forbidden' });
  sandbox.cluster.members = ['node2=http://127.0.0.2:2380'];
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
});

test("discovery's error about a cluster reaches the caller", async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.discovery.fail({ kind: 'refuse' });
  await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'discovery_unreachable' });
  t.is(sandbox.cluster.requests.length, 0);
});

test('members that policy forbids are never contacted', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, {
    fleetHosts: THREE_HOSTS,
    allowedHosts: ['127.0.0.2'],
  });
  for (let times = 0; times < 5; times++) await fleet.machines(cluster, notAborted());
  t.deepEqual([...new Set(sandbox.cluster.requests.map(({ host }) => host))], ['127.0.0.2']);
  sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.2' });
  const error = await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'cluster_unreachable' });
  t.regex(error?.message ?? '', /127\.0\.0\.1:\d+: forbidden/);
});

test('a cluster whose members are all forbidden is forbidden', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, allowedHosts: 'unset' });
  await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'forbidden' });
  t.is(sandbox.cluster.requests.length, 0);
});

test('an endpoint with a path has the API below that path', async (t) => {
  const proxy = await serve(t, respondWith(200, {}));
  const { fleet, cluster } = openNamedFleet(t, [new URL('/clusters/a/', proxy.url)]);
  await fleet.machines(cluster, notAborted());
  t.is(proxy.requests[0]?.url, '/clusters/a/fleet/v1/machines');
});
