import test from 'ava';
import {
  type DesiredState,
  type FleetTransport,
  pendingHosts,
  type UnitOption,
} from '../../../src/plugin.js';
import type { ResponseFaultKind } from '../../../src/sandbox/faults.js';
import type { Sandbox } from '../../../src/sandbox/sandbox.js';
import type { Cluster } from '../../../src/api/cluster.js';
import { respondWith, serve } from '../../network/http-server.js';
import { notAborted, openFleet, openNamedFleet, readable, THREE_HOSTS } from './open-fleet.js';

const OPTIONS: UnitOption[] = [
  { section: 'Unit', name: 'Description', value: 'A <b>"test"</b>, é' },
  { section: 'Service', name: 'Environment', value: '' },
  { section: 'Service', name: 'ExecStart', value: '/bin/sh -c "exec sleep 1\\\n 2"' },
];

const CHANGES: [string, (fleet: FleetTransport, cluster: Cluster) => Promise<unknown>][] = [
  [
    'setDesiredState',
    (fleet, cluster) => fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted()),
  ],
  [
    'putUnit',
    (fleet, cluster) =>
      fleet.putUnit(cluster, { name: 'a.service', desiredState: 'loaded', options: OPTIONS }, notAborted()),
  ],
  ['destroyUnit', (fleet, cluster) => fleet.destroyUnit(cluster, 'a.service', notAborted())],
];

const changesIn = ({ cluster }: Sandbox) => cluster.requests.filter(({ method }) => method !== 'GET');
const changesSeen = (sandbox: Sandbox) => changesIn(sandbox).length;

/** Changes fail like this, while the hosts answer reads. */
function failChanges({ cluster }: Sandbox, kind: ResponseFaultKind): void {
  for (const method of ['PUT', 'DELETE']) cluster.fail({ kind, method });
}

test('a desired state is set and read back', async (t) => {
  const { fleet, cluster } = await openFleet(t, { units: [{ name: 'a.service' }] });
  for (const state of ['loaded', 'inactive', 'launched'] as const) {
    await fleet.setDesiredState(cluster, 'a.service', state, notAborted());
    t.is((await fleet.unit(cluster, 'a.service', notAborted()))?.desiredState, state);
  }
});

test('a unit is created, replaced and destroyed', async (t) => {
  const { fleet, cluster } = await openFleet(t, { units: [] });
  await fleet.putUnit(
    cluster,
    { name: 'a.service', desiredState: 'launched', options: OPTIONS },
    notAborted(),
  );
  t.like(await fleet.unit(cluster, 'a.service', notAborted()), {
    desiredState: 'launched',
    options: OPTIONS,
  });
  const others = OPTIONS.slice(0, 1);
  await fleet.putUnit(cluster, { name: 'a.service', desiredState: 'loaded', options: others }, notAborted());
  t.like(await fleet.unit(cluster, 'a.service', notAborted()), { desiredState: 'loaded', options: others });
  await fleet.putUnit(
    cluster,
    { name: 'a.service', desiredState: 'inactive', options: others },
    notAborted(),
  );
  t.is((await fleet.unit(cluster, 'a.service', notAborted()))?.desiredState, 'inactive');
  t.true(await fleet.destroyUnit(cluster, 'a.service', notAborted()));
  t.is(await fleet.unit(cluster, 'a.service', notAborted()), undefined);
  t.false(await fleet.destroyUnit(cluster, 'a.service', notAborted()), 'it was not there');
});

for (const name of [
  'web@.service',
  'web@1.service',
  '-.mount',
  'a\\x2db.mount',
  'tunnel@db:5432.service',
  '_-.timer',
]) {
  test(`the unit ${name} is written, read and destroyed by its name`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
    await fleet.putUnit(cluster, { name, desiredState: 'inactive', options: OPTIONS }, notAborted());
    t.deepEqual(
      sandbox.cluster.units().map((unit) => unit.name),
      [name],
    );
    t.is((await fleet.unit(cluster, name, notAborted()))?.name, name);
    t.deepEqual(await fleet.unitStates(cluster, { unitName: name, ...notAborted() }), []);
    t.true(await fleet.destroyUnit(cluster, name, notAborted()));
  });
}

for (const name of [
  '',
  'a',
  '../machines',
  'a/b.service',
  'a.service?x',
  'a.service#',
  '@.service',
  'é.service',
  '.',
]) {
  test(`nothing is requested from a cluster for '${name}', which is not a unit name`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t);
    const code = { code: 'invalid_parameters' };
    await t.throwsAsync(fleet.unit(cluster, name, notAborted()), code);
    await t.throwsAsync(fleet.setDesiredState(cluster, name, 'loaded', notAborted()), code);
    await t.throwsAsync(fleet.destroyUnit(cluster, name, notAborted()), code);
    await t.throwsAsync(
      fleet.putUnit(cluster, { name, desiredState: 'loaded', options: OPTIONS }, notAborted()),
      code,
    );
    t.is(sandbox.cluster.requests.length, 0);
  });
}

for (const poison of ['running', '', 'Launched', 'constructor', 'loaded ', null, undefined, ['loaded']]) {
  test(`the desired state ${JSON.stringify(poison)} would poison the unit, so it is never sent`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { units: [{ name: 'a.service' }] });
    // A plugin in JavaScript can send anything.
    const state: unknown = poison;
    const desiredState = state as DesiredState;
    await t.throwsAsync(fleet.setDesiredState(cluster, 'a.service', desiredState, notAborted()), {
      instanceOf: TypeError,
    });
    await t.throwsAsync(
      fleet.putUnit(cluster, { name: 'a.service', desiredState, options: OPTIONS }, notAborted()),
      {
        instanceOf: TypeError,
      },
    );
    t.is(sandbox.cluster.requests.length, 0);
  });
}

test('setting the state of a unit that does not exist is reported as such', async (t) => {
  const { fleet, cluster } = await openFleet(t, { units: [] });
  const error = await t.throwsAsync(fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted()), {
    code: 'unit_not_found',
  });
  t.true(error?.message.includes('a.service'));
});

test('a change that is answered with 404 of fleet is one of a unit that does not exist', async (t) => {
  const server = await serve(t, readable(respondWith(404, { error: { code: 404, message: 'no unit' } })));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  for (const [, change] of CHANGES.filter(([what]) => what !== 'destroyUnit'))
    await t.throwsAsync(change(fleet, cluster), { code: 'unit_not_found' });
});

test('when the outcome is unknown, the error names the hosts that may have made the change, and its details all', async (t) => {
  const moved = await serve(t, readable(respondWith(302)));
  const tunnel = await serve(t, readable(respondWith(504)));
  const { fleet, cluster } = openNamedFleet(t, [moved.url, tunnel.url]);
  const reason = (status: number) => `HTTP ${status} without a content type, which is not from fleet`;
  const error = await t.throwsAsync(fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted()), {
    code: 'outcome_unknown',
    message: `The cluster's fleet API did not confirm the change (${tunnel.url.host}: ${reason(504)})`,
  });
  t.like(error, {
    details: {
      hosts: [
        { host: moved.url.host, reason: reason(302) },
        { host: tunnel.url.host, reason: reason(504) },
      ],
    },
  });
});

test('a host that has stopped since it responded never received the change, so another one makes it', async (t) => {
  // Without a kept connection, on which the change could have been sent.
  const stopped = await serve(t, respondWith(200, {}, { connection: 'close' }));
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster } = openNamedFleet(t, [stopped.url, good.url]);
  for (const [, change] of CHANGES) {
    await fleet.machines(cluster, notAborted());
    if (good.requests.length === 0) await stopped.stop();
    await change(fleet, cluster);
  }
  t.deepEqual(
    good.requests.map(({ method }) => method).filter((method) => method !== 'GET'),
    ['PUT', 'PUT', 'DELETE'],
  );
});

test('a host that has made a change is the one that is asked next', async (t) => {
  const moved = await serve(t, readable(respondWith(302)));
  const good = await serve(t, readable(respondWith(204)));
  const { fleet, cluster, clock } = openNamedFleet(t, [moved.url, good.url]);
  await fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted());
  // The other host is not avoided any more.
  clock.advance(30_000);
  await fleet.machines(cluster, notAborted());
  t.deepEqual([moved.requests.length, good.requests.length], [2, 2]);
});

test("fleet's reason for refusing a change is reported", async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, {
    units: [{ name: 'web@.service', desiredState: 'inactive' }],
  });
  t.like(
    await t.throwsAsync(fleet.setDesiredState(cluster, 'web@.service', 'launched', notAborted()), {
      code: 'cluster_refused',
      message: /HTTP status 400: cannot activate template "web@.service"/,
    }),
    { details: { status: 400 } },
  );
  await t.throwsAsync(
    fleet.putUnit(cluster, { name: 'new.service', desiredState: 'loaded', options: [] }, notAborted()),
    {
      code: 'cluster_refused',
      message: /HTTP status 409: unit does not exist and options field empty/,
    },
  );
  t.is(changesSeen(sandbox), 2);
});

test('a poisoned unit shows as a failure of the cluster, and a change to it has no known outcome', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, {
    units: [{ name: 'a.service' }],
    fleetHosts: THREE_HOSTS,
  });
  sandbox.cluster.setUnit('a.service', { desiredState: 'running' });
  await t.throwsAsync(fleet.unit(cluster, 'a.service', notAborted()), { code: 'cluster_unhealthy' });
  await t.throwsAsync(fleet.setDesiredState(cluster, 'a.service', 'loaded', notAborted()), {
    code: 'outcome_unknown',
  });
  t.is(changesSeen(sandbox), 1);
});

for (const [what, change] of CHANGES) {
  for (const good of THREE_HOSTS) {
    test(`${what}: hosts that refuse the connection never received the change, so ${good} makes it`, async (t) => {
      const { fleet, cluster, sandbox } = await openFleet(t, {
        fleetHosts: THREE_HOSTS,
        units: [{ name: 'a.service' }],
      });
      for (const host of THREE_HOSTS) if (host !== good) sandbox.cluster.fail({ kind: 'refuse', host });
      await t.notThrowsAsync(change(fleet, cluster));
      t.is(changesSeen(sandbox), 1);
    });
  }

  for (const kind of ['hang', 'drop', 'drop-answer', '500', '503'] as const) {
    // Serial, so that only the missing response exceeds the short time limit of the test.
    test.serial(
      `${what}: after ${kind} the change is sent to no other host, and its outcome is unknown`,
      async (t) => {
        const { fleet, cluster, sandbox } = await openFleet(t, {
          fleetHosts: THREE_HOSTS,
          units: [{ name: 'a.service' }],
          hanging: kind === 'hang' ? THREE_HOSTS : [],
        });
        failChanges(sandbox, kind);
        const error = await t.throwsAsync(change(fleet, cluster), { code: 'outcome_unknown' });
        const changes = changesIn(sandbox).map(({ host }) => `${host}:${sandbox.fleetPort}`);
        t.is(changes.length, 1);
        t.true(error?.message.includes(changes[0] ?? '?'), 'it names the host to look at');
        const answered = kind === '500' || kind === '503';
        t.deepEqual(
          pendingHosts(error),
          answered ? [] : changes,
          'what fleet has answered does not come later',
        );
      },
    );

    test.serial(`${what}: the same on a connection that was used before: ${kind}`, async (t) => {
      const { fleet, cluster, sandbox } = await openFleet(t, {
        fleetHosts: THREE_HOSTS,
        units: [{ name: 'a.service' }],
        hanging: kind === 'hang' ? THREE_HOSTS : [],
      });
      await fleet.units(cluster, notAborted());
      failChanges(sandbox, kind);
      await t.throwsAsync(change(fleet, cluster), { code: 'outcome_unknown' });
      t.is(changesSeen(sandbox), 1);
    });
  }

  test(`${what}: when every host refuses the connection, nothing was done, and the cluster is unreachable`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    sandbox.cluster.fail({ kind: 'refuse' });
    await t.throwsAsync(change(fleet, cluster), { code: 'cluster_unreachable' });
    t.is(changesSeen(sandbox), 0);
  });

  test(`${what}: when policy forbids every host, nothing is sent`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, {
      fleetHosts: THREE_HOSTS,
      allowedHosts: 'unset',
    });
    await t.throwsAsync(change(fleet, cluster), { code: 'forbidden' });
    t.is(changesSeen(sandbox), 0);
  });

  test(`${what}: a redirect is not followed, and nothing was done`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t);
    failChanges(sandbox, 'redirect');
    await t.throwsAsync(change(fleet, cluster), { code: 'cluster_answer_invalid', message: /HTTP 302/ });
    t.is(changesSeen(sandbox), 1);
    t.false(sandbox.cluster.requests.some(({ path }) => path.includes('elsewhere')));
  });

  test(`${what}: when no host answers reads, nothing is sent, and nothing was done`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
    sandbox.cluster.fail({ kind: '503' });
    await t.throwsAsync(change(fleet, cluster), { code: 'cluster_unhealthy' });
    t.is(changesSeen(sandbox), 0);
  });

  test(`${what}: after a proxy's own 5xx, or a 4xx for a fleet that has not answered, the change may be made later`, async (t) => {
    for (const [status, body] of [
      [408, '<html>Request Time-out'],
      [425, ''],
      [499, ''],
      [500, '<html>Backend fetch failed'],
      [500, {}],
      [502, '<html>Bad Gateway'],
      [502, { error: { code: 502, message: '' } }],
      [503, '<html>Backend fetch failed'],
      [503, { error: { code: 100, message: 'no backend' } }],
      [504, '<html>Gateway Timeout'],
    ] as const) {
      const tunnel = await serve(t, readable(respondWith(status, body)));
      const { fleet, cluster } = openNamedFleet(t, [tunnel.url, tunnel.url]);
      const error = await t.throwsAsync(change(fleet, cluster), { code: 'outcome_unknown' });
      t.deepEqual(pendingHosts(error), [tunnel.url.host], 'fleet has not answered the tunnel');
      t.is(tunnel.requests.filter(({ method }) => method !== 'GET').length, 1);
    }
  });

  test(`${what}: a response that is far too long leaves the outcome unknown`, async (t) => {
    const server = await serve(t, readable(respondWith(200, Buffer.alloc(33 * 1024 * 1024, 'x'))));
    const { fleet, cluster } = openNamedFleet(t, [server.url, server.url]);
    await t.throwsAsync(change(fleet, cluster), { code: 'outcome_unknown' });
    t.is(server.requests.filter(({ method }) => method !== 'GET').length, 1);
  });
}
