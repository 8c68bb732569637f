import { getEventListeners } from 'node:events';
import test from 'ava';
import type { FleetTransport } from '../../../src/plugin.js';
import { Cluster } from '../../../src/api/cluster.js';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { notAborted, openFleet, openNamedFleet, pagesAt, readable, THREE_HOSTS } from './open-fleet.js';

const CHANGES = new Set(['setDesiredState', 'putUnit', 'destroyUnit']);
const CALLS: [string, (fleet: FleetTransport, cluster: Cluster, signal: AbortSignal) => Promise<unknown>][] =
  [
    ['machines', (fleet, cluster, signal) => fleet.machines(cluster, { signal })],
    ['units', (fleet, cluster, signal) => fleet.units(cluster, { signal })],
    ['unit', (fleet, cluster, signal) => fleet.unit(cluster, 'a.service', { signal })],
    ['unitStates', (fleet, cluster, signal) => fleet.unitStates(cluster, { signal })],
    [
      'setDesiredState',
      (fleet, cluster, signal) => fleet.setDesiredState(cluster, 'a.service', 'loaded', { signal }),
    ],
    [
      'putUnit',
      (fleet, cluster, signal) =>
        fleet.putUnit(cluster, { name: 'a.service', desiredState: 'loaded', options: [] }, { signal }),
    ],
    ['destroyUnit', (fleet, cluster, signal) => fleet.destroyUnit(cluster, 'a.service', { signal })],
  ];

for (const [what, call] of CALLS) {
  test(`${what}: aborting ends the request, and no other host is tried`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    // After this a change is sent at once.
    await fleet.machines(cluster, notAborted());
    const end = sandbox.cluster.fail({ kind: 'hang' });
    const caller = new AbortController();
    const answer = call(fleet, cluster, caller.signal);
    await eventually('the request is taken', () => sandbox.cluster.requests.length === 2);
    const reason = new Error('the deadline passed');
    caller.abort(reason);
    const error = await t.throwsAsync(answer);
    // A change may have been made, and its outcome stays unknown.
    if (CHANGES.has(what)) t.like(error, { code: 'outcome_unknown' });
    else t.is(error, reason, 'it rejects with the reason itself');
    t.is(sandbox.cluster.requests.length, 2);
    await end();
    await eventually('the server sees the connection close', async () => {
      await fleet.machines(cluster, notAborted());
      return sandbox.cluster.requests.at(-1)?.concurrent === 1;
    });
  });

  test(`${what}: nothing is sent for a call that is already aborted`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t);
    const reason = new Error('gone');
    t.is(await t.throwsAsync(call(fleet, cluster, AbortSignal.abort(reason))), reason);
    await fleet.machines(cluster, notAborted());
    t.is(await t.throwsAsync(call(fleet, cluster, AbortSignal.abort(reason))), reason);
    t.is(sandbox.cluster.requests.length, 1);
    t.is(sandbox.discovery.requests.length, 1);
  });

  test(`${what}: aborting while discovery is queried ends the call`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t);
    sandbox.discovery.fail({ kind: 'hang' });
    const caller = new AbortController();
    const answer = call(fleet, cluster, caller.signal);
    await eventually('discovery is asked', () => sandbox.discovery.requests.length === 1);
    const reason = new Error('the deadline passed');
    caller.abort(reason);
    t.is(await t.throwsAsync(answer), reason);
    t.is(sandbox.cluster.requests.length, 0);
  });
}

test('a change is not sent when it is aborted while the hosts are asked whether they respond', async (t) => {
  const good = await serve(t, readable(respondWith(204)));
  const { fleet } = openNamedFleet(t, [good.url]);
  const caller = new AbortController();
  const reason = new Error('the deadline passed');
  const cluster = new Cluster('named', () => caller.abort(reason));
  t.is(await t.throwsAsync(fleet.destroyUnit(cluster, 'a.service', caller)), reason);
  t.deepEqual(
    good.requests.map(({ method }) => method),
    ['GET'],
  );
});

test('a call leaves nothing on its signal', async (t) => {
  const { fleet, cluster } = await openFleet(t);
  const { signal } = new AbortController();
  await fleet.unitStates(cluster, { signal, unitName: 'node-exporter.service' });
  await fleet.units(cluster, { signal });
  await fleet.unit(cluster, 'a.service', { signal });
  t.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('aborting ends every page that is in progress', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  sandbox.cluster.addUnits(1_000);
  const end = sandbox.cluster.fail({ kind: 'hang', path: /nextPageToken/ });
  const caller = new AbortController();
  const answer = fleet.units(cluster, caller);
  await eventually('four pages are in progress', () => sandbox.cluster.requests.length === 5);
  caller.abort(new Error('the deadline passed'));
  await t.throwsAsync(answer, { message: 'the deadline passed' });
  await end();
  await eventually('the server sees all connections close', async () => {
    await fleet.machines(cluster, notAborted());
    return sandbox.cluster.requests.at(-1)?.concurrent === 1;
  });
});

test('a page that fails ends the others that are in progress', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  sandbox.cluster.addUnits(1_000);
  sandbox.cluster.fail({ kind: 'garbage', path: pagesAt(92) });
  const end = sandbox.cluster.fail({ kind: 'hang', path: /nextPageToken/ });
  await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
  await end();
  await eventually('the server sees all connections close', async () => {
    await fleet.machines(cluster, notAborted());
    return sandbox.cluster.requests.at(-1)?.concurrent === 1;
  });
});
