import test from 'ava';
import { ActionError } from '../../../src/api/action-error.js';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { notAborted, openFleet, openNamedFleet, THREE_HOSTS } from './open-fleet.js';

const LASTS = 24_000;

test('a cluster that lists fewer machines than discovery names hosts is known to be incomplete, until it lists all', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  t.is(await fleet.incompleteness(cluster, notAborted()), undefined);
  clock.advance(2_000);
  sandbox.cluster.recover({ machines: 1, states: 0, lasts: LASTS });
  const missing = await fleet.incompleteness(cluster, notAborted());
  t.regex(
    missing ?? '',
    /^Discovery names 3 hosts of this cluster, but fleet lists 1 machine, without 127\.0\.0\.\d, 127\.0\.0\.\d: machines, units and states may be missing$/,
  );
  clock.advance(2_000);
  sandbox.cluster.recover({ machines: 2, states: 0, lasts: LASTS });
  t.regex((await fleet.incompleteness(cluster, notAborted())) ?? '', / fleet lists 2 machines, without /);
  clock.advance(2_000);
  sandbox.cluster.recover({ machines: 0, states: 0, lasts: LASTS });
  t.is(
    await fleet.incompleteness(cluster, notAborted()),
    'Discovery names 3 hosts of this cluster, but fleet lists 0 machines: machines, units and states may be missing',
  );
  clock.advance(LASTS);
  t.is(await fleet.incompleteness(cluster, notAborted()), undefined);
});

for (const [count, more] of [
  [5, ''],
  [6, ' and 1 more'],
] as const)
  test(`of ${count} hosts that fleet does not list the first five are named`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t);
    const others = Array.from({ length: count }, (_, index) => `127.0.9.${index + 1}`);
    sandbox.cluster.members = ['127.0.0.1', ...others].map((host) => `http://${host}:2380`);
    const missing = await fleet.incompleteness(cluster, notAborted());
    // Discovery lists its members in any order.
    const [, shown, rest] = /, without ([\d., ]*\d)(.*): /.exec(missing ?? '') ?? [];
    const named = shown?.split(', ') ?? [];
    t.deepEqual([new Set(named).size, rest], [5, more]);
    t.true(named.every((host) => others.includes(host)));
  });

test('incompleteness is logged once when it begins and once when it ends', async (t) => {
  const { fleet, cluster, sandbox, clock, log } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  sandbox.cluster.recover({ machines: 2, states: 0, lasts: LASTS });
  for (let times = 0; times < 3; times++) {
    await fleet.incompleteness(cluster, notAborted());
    clock.advance(LASTS / 3);
  }
  await fleet.incompleteness(cluster, notAborted());
  t.deepEqual(
    log.lines.map(({ level, message }) => [level, message]),
    [
      ['warn', 'cluster incomplete'],
      ['info', 'cluster complete'],
    ],
  );
  t.like(log.lines[0], { cluster: cluster.hash });
  t.like(log.lines[1], { cluster: cluster.hash, lasted_ms: LASTS, failures: 3 });
});

test('machines that were read a moment ago are not read again', async (t) => {
  const { fleet, cluster, sandbox, clock } = await openFleet(t);
  await fleet.machines(cluster, notAborted());
  await fleet.incompleteness(cluster, notAborted());
  t.is(sandbox.cluster.requests.length, 1);
  clock.advance(2_000);
  await fleet.incompleteness(cluster, notAborted());
  t.is(sandbox.cluster.requests.length, 2);
});

test('a member that is named by name is compared by its address', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.cluster.members = ['a=http://127.0.0.1:2380', 'b=http://localhost:2380'];
  t.is(await fleet.incompleteness(cluster, notAborted()), undefined);
});

test('nothing is known of endpoints of CLUSTERS_FILE, which may be those of a proxy', async (t) => {
  const { sandbox } = await openFleet(t, { machines: [] });
  const endpoints = [1, 2].map(() => new URL(`http://127.0.0.1:${sandbox.fleetPort}`));
  const { fleet, cluster } = openNamedFleet(t, endpoints);
  t.is(await fleet.incompleteness(cluster, notAborted()), undefined);
});

test('nothing is known of a cluster whose machines cannot be read, and aborting ends the question', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.cluster.fail({ kind: '503' });
  t.is(await fleet.incompleteness(cluster, notAborted()), undefined);
  const reason = new Error('gone');
  t.is(await t.throwsAsync(fleet.incompleteness(cluster, { signal: AbortSignal.abort(reason) })), reason);
});

test('every host is asked for itself, and each that does not answer, is not listed or is not valid is reported', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  sandbox.cluster.members = [...sandbox.cluster.members, 'odd=nonsense'];
  sandbox.cluster.fail({ kind: '503', host: '127.0.0.2' });
  sandbox.cluster.recover({ machines: 2, states: 0, lasts: LASTS });
  const report = await fleet.hosts(cluster, notAborted());
  t.deepEqual(
    report.hosts.toSorted((a, b) => (a.host < b.host ? -1 : 1)),
    THREE_HOSTS.map((host) => ({
      host: `${host}:${sandbox.fleetPort}`,
      failure: host === '127.0.0.2' ? 'HTTP 503 fleet server unable to communicate with etcd' : undefined,
    })),
  );
  t.deepEqual(report.unlisted, ['127.0.0.3']);
  t.deepEqual(report.ignored, ["'nonsense'"]);
});

test('when no host answers, nothing more is asked', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  sandbox.cluster.fail({ kind: '503' });
  const { hosts, unlisted, ignored, moreIgnored } = await fleet.hosts(cluster, notAborted());
  t.is(hosts.length, 3);
  t.deepEqual([unlisted, ignored, moreIgnored], [[], [], 0]);
  t.is(sandbox.cluster.requests.length, 3);
});

test('a host that does not answer when all are asked is avoided', async (t) => {
  const failing = await serve(t, respondWith(503, { error: { code: 503 } }));
  const good = await serve(t, respondWith(200, {}));
  const { fleet, cluster } = openNamedFleet(t, [failing.url, good.url]);
  const { hosts } = await fleet.hosts(cluster, notAborted());
  t.deepEqual(
    hosts.map(({ failure }) => failure),
    ['HTTP 503', undefined],
  );
  await fleet.machines(cluster, notAborted());
  t.deepEqual([failing.requests.length, good.requests.length], [1, 3]);
});

test('aborting ends the questions, also with an error of an action as its reason', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.cluster.fail({ kind: 'hang' });
  for (const ask of ['hosts', 'incompleteness'] as const) {
    sandbox.cluster.requests.length = 0;
    const caller = new AbortController();
    const asked = fleet[ask](cluster, { signal: caller.signal });
    await eventually('the host is asked', () => sandbox.cluster.requests.length === 1);
    const reason = new ActionError('cancelled', 'The request was cancelled');
    caller.abort(reason);
    t.is(await t.throwsAsync(asked), reason);
  }
});

test('a host that policy forbids is reported as forbidden', async (t) => {
  const { fleet, cluster } = await openFleet(t, { fleetHosts: THREE_HOSTS, allowedHosts: ['127.0.0.2'] });
  const { hosts } = await fleet.hosts(cluster, notAborted());
  t.deepEqual(hosts.map(({ failure }) => failure ?? 'answers').toSorted(), [
    'answers',
    'forbidden',
    'forbidden',
  ]);
});
