import type { IncomingMessage, RequestListener } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { pageToken, Windows } from '../../../src/clusters/fleet/page-token.js';
import { pageOf, readPageToken } from '../../../src/sandbox/paging.js';
import type { Sandbox } from '../../../src/sandbox/sandbox.js';
import { systemClock } from '../../../src/lib/clock.js';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { MACHINE_A, MACHINE_B } from '../../support/open-sandbox.js';
import { notAborted, openFleet, openNamedFleet, pagesAt, THREE_HOSTS } from './open-fleet.js';

const pagesAsked = ({ cluster }: Sandbox) =>
  cluster.requests.map(({ path }) => new URL(path, 'http://fleet').searchParams.get('nextPageToken'));

test('machines have every documented key, null where fleet leaves one out', async (t) => {
  const { fleet, cluster } = await openFleet(t, {
    machines: [
      { id: MACHINE_A, primaryIP: '10.0.0.1', metadata: { region: 'north' } },
      { id: MACHINE_B, primaryIP: null, metadata: {} },
    ],
  });
  t.deepEqual(await fleet.machines(cluster, notAborted()), [
    { id: MACHINE_A, primaryIP: '10.0.0.1', metadata: { region: 'north' } },
    { id: MACHINE_B, primaryIP: null, metadata: {} },
  ]);
});

test('units have every documented key, null where fleet leaves one out', async (t) => {
  const options = [
    { section: 'Service', name: 'Environment', value: '' },
    { section: 'Service', name: 'ExecStart', value: '/bin/true' },
  ];
  const nowhere = [...options, { section: 'X-Fleet', name: 'MachineID', value: MACHINE_B }];
  const everywhere = [...options, { section: 'X-Fleet', name: 'Global', value: 'true' }];
  const { fleet, cluster } = await openFleet(t, {
    machines: [{ id: MACHINE_A, primaryIP: '10.0.0.1', metadata: {} }],
    units: [
      { name: 'a.service', options },
      { name: 'b.service', options: nowhere },
      { name: 'c.service', options: everywhere },
    ],
  });
  const a = {
    name: 'a.service',
    options,
    desiredState: 'launched',
    currentState: 'launched',
    machineID: MACHINE_A,
  };
  const b = {
    name: 'b.service',
    options: nowhere,
    desiredState: 'launched',
    currentState: 'inactive',
    machineID: null,
  };
  const c = {
    name: 'c.service',
    options: everywhere,
    desiredState: 'launched',
    currentState: 'inactive',
    machineID: null,
  };
  t.deepEqual(await fleet.units(cluster, notAborted()), [a, b, c]);
  t.deepEqual(await fleet.unit(cluster, 'a.service', notAborted()), a);
  t.deepEqual(await fleet.unit(cluster, 'c.service', notAborted()), { ...c, currentState: null });
  t.is(await fleet.unit(cluster, 'd.service', notAborted()), undefined);
});

test('a unit without options, or with nothing but a name, has every key', async (t) => {
  const server = await serve(t, respondWith(200, { units: [{ name: 'a.service' }] }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.deepEqual(await fleet.units(cluster, notAborted()), [
    { name: 'a.service', options: [], desiredState: null, currentState: null, machineID: null },
  ]);
});

test('unit states have every documented key, null where fleet leaves one out', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [{ name: 'a.service' }] });
  const [before] = sandbox.cluster.states();
  t.deepEqual(await fleet.unitStates(cluster, notAborted()), before === undefined ? [] : [before]);
  sandbox.cluster.setState('a.service', { hash: null, systemdSubState: null, machineID: null });
  t.deepEqual(await fleet.unitStates(cluster, notAborted()), [
    {
      name: 'a.service',
      hash: null,
      machineID: null,
      systemdLoadState: 'loaded',
      systemdActiveState: 'active',
      systemdSubState: null,
    },
  ]);
});

test('states are filtered by unit and machine, alone or together', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  const all = sandbox.cluster.states();
  const [machineID = ''] = sandbox.cluster.machines.map(({ id }) => id);
  const unitName = 'node-exporter.service';
  const by = (filters: { unitName?: string; machineID?: string }) =>
    fleet.unitStates(cluster, { ...filters, ...notAborted() });
  t.deepEqual(await by({}), all);
  t.deepEqual(
    await by({ unitName }),
    all.filter((row) => row.name === unitName),
  );
  t.deepEqual(
    await by({ machineID }),
    all.filter((row) => row.machineID === machineID),
  );
  t.is((await by({ unitName, machineID })).length, 1);
  t.deepEqual(await by({ unitName: 'not-there.service' }), []);
});

test('an empty cluster has empty lists', async (t) => {
  const { fleet, cluster } = await openFleet(t, { machines: [], units: [] });
  t.deepEqual(await fleet.machines(cluster, notAborted()), []);
  t.deepEqual(await fleet.units(cluster, notAborted()), []);
  t.deepEqual(await fleet.unitStates(cluster, notAborted()), []);
});

test('all of 261 units are read from three pages', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  const names = sandbox.cluster.addUnits(261);
  t.deepEqual(
    (await fleet.units(cluster, notAborted())).map(({ name }) => name),
    names,
  );
  const asked = pagesAsked(sandbox);
  const windows = new Windows(100);
  t.deepEqual(asked.slice(0, 3), [null, windows.tokenAt(92), windows.tokenAt(184)]);
  t.is(new Set(asked).size, asked.length, 'no page is asked for twice');
  t.deepEqual(
    (await fleet.unitStates(cluster, notAborted())).map(({ name }) => name),
    names,
  );
});

for (const count of [99, 100, 101, 200, 500]) {
  test(`all of ${count} units are read, whether or not the last page is full`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
    const names = sandbox.cluster.addUnits(count);
    t.deepEqual(
      (await fleet.units(cluster, notAborted())).map(({ name }) => name),
      names,
    );
  });
}

test('the server decides the size of a page', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [], pageSize: 7 });
  const names = sandbox.cluster.addUnits(50);
  t.deepEqual(
    (await fleet.units(cluster, notAborted())).map(({ name }) => name),
    names,
  );
  t.is((await fleet.machines(cluster, notAborted())).length, 3);
});

test('filters are sent with every page request', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [], pageSize: 10 });
  sandbox.cluster.addUnits(100);
  const [{ id: machineID } = { id: '' }] = sandbox.cluster.machines;
  const mine = sandbox.cluster.states().filter((row) => row.machineID === machineID);
  t.true(mine.length > 20);
  t.deepEqual(await fleet.unitStates(cluster, { machineID, ...notAborted() }), mine);
});

test('pages are read in parallel, at most four at a time, and all from one host', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, {
    fleetHosts: THREE_HOSTS,
    units: [],
    clock: systemClock,
    delays: { answer: 20 },
  });
  const names = sandbox.cluster.addUnits(1_250);
  t.is((await fleet.units(cluster, notAborted())).length, names.length);
  const most = Math.max(...sandbox.cluster.requests.map(({ concurrent }) => concurrent));
  t.true(most > 1 && most <= 4, `${most} at once`);
  t.is(new Set(sandbox.cluster.requests.map(({ host }) => host)).size, 1);
});

for (const kind of ['500', 'drop', 'garbage', 'hang', 'truncate'] as const) {
  test(`a page past the last that ends in ${kind} loses no rows`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
    const names = sandbox.cluster.addUnits(261);
    sandbox.cluster.fail({ kind, path: pagesAt(276, 368) });
    t.deepEqual(
      (await fleet.units(cluster, notAborted())).map(({ name }) => name),
      names,
    );
  });
}

test('once the last page is known, requests for later pages are abandoned', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  sandbox.cluster.addUnits(261);
  sandbox.cluster.fail({ kind: 'hang', path: pagesAt(276) });
  t.is((await fleet.units(cluster, notAborted())).length, 261);
  await eventually('the server sees that no client waits for the page', async () => {
    await fleet.machines(cluster, notAborted());
    return sandbox.cluster.requests.at(-1)?.concurrent === 1;
  });
});

test('a single page that fails on one host is read from another', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
  const names = sandbox.cluster.addUnits(500);
  await fleet.machines(cluster, notAborted());
  const host = sandbox.cluster.requests.at(-1)?.host;
  sandbox.cluster.fail({ kind: '500', host, path: pagesAt(184) });
  t.deepEqual(
    (await fleet.units(cluster, notAborted())).map(({ name }) => name),
    names,
  );
});

test('a page that fails on every host fails the list, which is never returned in part', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
  sandbox.cluster.addUnits(500);
  for (const [kind, code] of [
    ['503', 'cluster_unhealthy'],
    ['drop', 'cluster_unreachable'],
    ['garbage', 'cluster_answer_invalid'],
  ] as const) {
    const end = sandbox.cluster.fail({ kind, path: pagesAt(184) });
    await t.throwsAsync(fleet.units(cluster, notAborted()), { code });
    await end();
  }
});

test('when page tokens are unfamiliar, the pages are read one after the other, and once more backwards', async (t) => {
  const asked: (string | null)[] = [];
  let inFlight = 0;
  const server = await serve(t, (request, response) => {
    t.is(++inFlight, 1);
    const token = queryOf(request).get('nextPageToken');
    asked.push(token);
    const page = Number(token?.slice(1) ?? 1);
    inFlight--;
    const nextPageToken = page < 5 ? `p${page + 1}` : undefined;
    response.end(JSON.stringify({ units: [{ name: `u${page}.service` }], nextPageToken }));
  });
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.is((await fleet.units(cluster, notAborted())).length, 5);
  t.deepEqual(asked, [null, 'p2', 'p3', 'p4', 'p5', 'p5', 'p4', 'p3', 'p2', null]);
});

for (const [what, limit] of [
  ['', 100],
  [', of one page', 1_000],
] as const) {
  test(`units that stay are listed while one is removed before each page is read${what}`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { units: [], pageSize: limit });
    const names = sandbox.cluster.addUnits(900);
    const removed = names.filter((_, index) => index % 7 === 0).values();
    const list = sandbox.cluster.listedUnits.bind(sandbox.cluster);
    sandbox.cluster.listedUnits = () => {
      for (let times = 0; times < 4; times++) {
        const { value } = removed.next();
        if (value !== undefined) sandbox.cluster.removeUnit(value);
      }
      return list();
    };
    const warnings: string[] = [];
    const warn = (text: string) => warnings.push(text);
    const listed = new Set((await fleet.units(cluster, { warn, ...notAborted() })).map(({ name }) => name));
    t.deepEqual(
      sandbox.cluster.units().filter(({ name }) => !listed.has(name)),
      [],
    );
    t.deepEqual(warnings, []);
  });
}

test('states that stay are listed while others come and go', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  const stay = sandbox.cluster.addUnits(900).filter((_, index) => index % 3 !== 0);
  const list = sandbox.cluster.listedStates.bind(sandbox.cluster);
  let reads = 0;
  sandbox.cluster.listedStates = () => {
    // In turns the first third, or all.
    reads++;
    const staying = new Set(stay);
    return list().filter(({ name }, index) => staying.has(name) || index % 5 !== reads % 5);
  };
  const listed = new Set((await fleet.unitStates(cluster, notAborted())).map(({ name }) => name));
  t.deepEqual(
    stay.filter((name) => !listed.has(name)),
    [],
  );
});

test('a list that changes faster than it can be read has a warning', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [], pageSize: 10 });
  const removed = sandbox.cluster.addUnits(4_000).values();
  const list = sandbox.cluster.listedUnits.bind(sandbox.cluster);
  sandbox.cluster.listedUnits = () => {
    for (let times = 0; times < 15; times++) sandbox.cluster.removeUnit(removed.next().value ?? '');
    return list();
  };
  const warnings: string[] = [];
  await fleet.units(cluster, { warn: (text) => warnings.push(text), ...notAborted() });
  t.regex(warnings.join(), /list of units changed so fast/);
});

test('units and states with invalid names are left out, with a warning that is harmless to show', async (t) => {
  const invalid = ['web', `${'x'.repeat(3_900_000)}.service`, '\u001b\u202e\u009b.service'];
  const server = await serve(t, (request, response) => {
    const rows = [...invalid, 'a.service'].map((name) => ({ name }));
    response.end(JSON.stringify(request.url?.endsWith('/units') ? { units: rows } : { states: rows }));
  });
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  for (const list of ['units', 'unitStates'] as const) {
    const warnings: string[] = [];
    const rows = await fleet[list](cluster, { warn: (text) => warnings.push(text), ...notAborted() });
    t.deepEqual(
      rows.map(({ name }) => name),
      ['a.service'],
    );
    t.regex(warnings.join(), /3 invalid unit names, which were left out: "web"/);
    t.notRegex(warnings.join(), /[\p{Cc}\p{Cf}]/u);
    t.true(warnings.join().length < 500);
  }
});

test('one invalid name is a name, and more than three are not all shown', async (t) => {
  for (const [names, shown] of [
    [['one'], '1 invalid unit name, which were left out: "one"'],
    [['a', 'b', 'c'], '3 invalid unit names, which were left out: "a", "b", "c"'],
    [['a', 'b', 'c', 'd'], '4 invalid unit names, which were left out: "a", "b", "c", ...'],
  ] as const) {
    const server = await serve(t, respondWith(200, { units: names.map((name) => ({ name })) }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    const warnings: string[] = [];
    await fleet.units(cluster, { warn: (text) => warnings.push(text), ...notAborted() });
    t.deepEqual(warnings, [`The cluster lists ${shown}`]);
  }
});

test('an empty token ends the pages like a missing one', async (t) => {
  const server = await serve(t, respondWith(200, { units: [{ name: 'a.service' }], nextPageToken: '' }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.is((await fleet.units(cluster, notAborted())).length, 1);
  t.is(server.requests.length, 1);
});

test('pages that never end are refused', async (t) => {
  const server = await serve(t, respondWith(200, { units: [{ name: 'a.service' }], nextPageToken: 'again' }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
  t.is(server.requests.length, 2);
});

test('a row that a change shifts into a second page is listed once', async (t) => {
  const machine = (id: string) => ({ id, primaryIP: '10.0.0.1' });
  const unit = (name: string) => ({ name });
  const state = (name: string, machineID?: string) => ({ name, machineID });
  const server = await serve(
    t,
    pages({
      machines: [
        [machine('a'), machine('b')],
        [machine('b'), machine('c')],
      ],
      units: [
        [unit('a.service'), unit('b.service')],
        [unit('b.service'), unit('c.service')],
      ],
      states: [
        [state('a.service', 'm1'), state('a.service', 'm2'), state('b.service')],
        [state('a.service', 'm2'), state('b.service'), state('b.service', 'm1')],
      ],
    }),
  );
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.deepEqual(
    (await fleet.machines(cluster, notAborted())).map(({ id }) => id),
    ['a', 'b', 'c'],
  );
  t.deepEqual(
    (await fleet.units(cluster, notAborted())).map(({ name }) => name),
    ['a.service', 'b.service', 'c.service'],
  );
  t.deepEqual(
    (await fleet.unitStates(cluster, notAborted())).map(({ name, machineID }) => [name, machineID]),
    [
      ['a.service', 'm1'],
      ['a.service', 'm2'],
      ['b.service', null],
      ['b.service', 'm1'],
    ],
  );
});

function queryOf({ url = '' }: IncomingMessage): URLSearchParams {
  return new URL(url, 'http://fleet').searchParams;
}

/** Two pages of each collection. */
function pages(
  collections: Record<'machines' | 'units' | 'states', [unknown[], unknown[]]>,
): RequestListener {
  return (request, response) => {
    const { pathname } = new URL(request.url ?? '', 'http://fleet');
    const name = pathname.endsWith('/machines')
      ? 'machines'
      : pathname.endsWith('/units')
        ? 'units'
        : 'states';
    const [first, second] = collections[name];
    const isFirst = queryOf(request).get('nextPageToken') === null;
    response.end(
      JSON.stringify({ [name]: isFirst ? first : second, nextPageToken: isFirst ? 'ZAACAA==' : undefined }),
    );
  };
}

/** A host that serves 700 units as fleet does with this `token_limit`; from a request on it closes the connection. */
function unitsHost(t: ExecutionContext, limit: number, { until = Infinity } = {}) {
  const units = Array.from({ length: 700 }, (_, index) => ({ name: `u${1_000 + index}.service` }));
  let requests = 0;
  return serve(t, (request, response) => {
    if (++requests > until) return request.destroy();
    const token = new URL(request.url ?? '', 'http://fleet').searchParams.get('nextPageToken');
    const known = Buffer.from(token ?? pageToken(limit, 1), 'base64url');
    if (known.readUInt16LE(0) !== limit)
      return respondWith(400, { error: { code: 400, message: 'bad token' } })(request, response);
    const page = known.readUInt16LE(2);
    const offset = ((page - 1) * limit) % 65_536;
    const nextPageToken = offset + limit <= units.length ? pageToken(limit, page + 1) : undefined;
    return respondWith(200, { units: units.slice(offset, offset + limit), nextPageToken })(request, response);
  });
}

test('when a host dies in the middle of a list, and the other one has another token_limit, the list is read anew there', async (t) => {
  const dying = await unitsHost(t, 100, { until: 3 });
  const other = await unitsHost(t, 50);
  const { fleet, cluster } = openNamedFleet(t, [dying.url, other.url]);
  const units = await fleet.units(cluster, notAborted());
  t.is(new Set(units.map(({ name }) => name)).size, 700);
});

test('when no host continues the list that is read anew either, the error can be retried', async (t) => {
  let begun = 0;
  const forgetful = await serve(t, (request, response) => {
    if (request.url?.includes('nextPageToken'))
      return respondWith(400, { error: { code: 400, message: 'bad token' } })(request, response);
    begun += 1;
    return respondWith(200, { units: [{ name: 'a.service' }], nextPageToken: pageToken(100, 2) })(
      request,
      response,
    );
  });
  const { fleet, cluster } = openNamedFleet(t, [forgetful.url]);
  await t.throwsAsync(fleet.units(cluster, notAborted()), {
    code: 'cluster_unhealthy',
    message: /No host can continue the list of units .*HTTP 400 bad token/,
  });
  t.is(begun, 2);
});

test('calls that come while a list is read share the next reading, which shows what was there when they came', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  sandbox.cluster.addUnits(250);
  const first = fleet.units(cluster, notAborted());
  await eventually('the first list has begun', () => sandbox.cluster.requests.length > 0);
  const [added = ''] = sandbox.cluster.addUnits([{ name: 'zz.service' }]);
  const later = await Promise.all([1, 2, 3, 4].map(async () => fleet.units(cluster, notAborted())));
  for (const units of later) t.true(units.some(({ name }) => name === added));
  await first;
  const firstPages = pagesAsked(sandbox).filter((token) => token === null);
  t.is(firstPages.length, 2);
});

test('calls share no list that has other rows: of another unit, machine, host or cluster', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS });
  const other = await sandbox.addCluster('other', { machines: [] });
  const all = sandbox.cluster.states();
  const [one, two] = sandbox.cluster.machines.map(({ id }) => id);
  const options = [
    { machineID: one },
    { machineID: two },
    { machineID: two, unitName: 'node-exporter.service' },
    {},
  ];
  const lists = await Promise.all(
    options.map(async (filters) => fleet.unitStates(cluster, { ...filters, ...notAborted() })),
  );
  t.deepEqual(
    lists,
    options.map(({ machineID, unitName }) =>
      all
        .filter((row) => machineID === undefined || row.machineID === machineID)
        .filter((row) => unitName === undefined || row.name === unitName),
    ),
  );
  sandbox.cluster.requests.length = 0;
  const hosts = ['127.0.0.3', '127.0.0.2', '127.0.0.1'];
  const machines = await Promise.all([
    fleet.machines(cluster, notAborted()),
    ...hosts.map(async (host) =>
      fleet.machines(cluster, { from: `${host}:${sandbox.fleetPort}`, ...notAborted() }),
    ),
    fleet.machines(new Cluster(other.token), notAborted()),
    fleet.machines(new Cluster(other.token), notAborted()),
  ]);
  t.deepEqual(
    machines.map(({ length }) => length),
    [3, 3, 3, 3, 0, 0],
  );
  t.deepEqual([...new Set(sandbox.cluster.requests.map(({ host }) => host))].toSorted(), THREE_HOSTS);
});

test('a call that shares a list gets a list of its own', async (t) => {
  const { fleet, cluster } = await openFleet(t, { units: [{ name: 'a.service' }] });
  const lists = await Promise.all([1, 2, 3].map(async () => fleet.units(cluster, notAborted())));
  for (const list of lists) t.is(list.splice(0).length, 1);
});

test('of a list that was read before no page after its end is asked for', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t, { units: [] });
  const names = sandbox.cluster.addUnits(350);
  await fleet.units(cluster, notAborted());
  sandbox.cluster.requests.length = 0;
  t.deepEqual(
    (await fleet.units(cluster, notAborted())).map(({ name }) => name),
    names,
  );
  t.is(sandbox.cluster.requests.length, 4);
});

for (const [what, change] of [
  ['grew', (sandbox: Sandbox) => sandbox.cluster.addUnits(900)],
  ['shrank', (sandbox: Sandbox) => shrink(sandbox, 300)],
  ['fits on one page now', (sandbox: Sandbox) => shrink(sandbox, 400)],
] as const)
  test(`a list that ${what} since it was read before is whole`, async (t) => {
    const { fleet, cluster, sandbox } = await openFleet(t, { fleetHosts: THREE_HOSTS, units: [] });
    sandbox.cluster.addUnits(450);
    await fleet.units(cluster, notAborted());
    change(sandbox);
    for (let times = 0; times < 2; times++)
      t.deepEqual(
        (await fleet.units(cluster, notAborted())).map(({ name }) => name),
        sandbox.cluster.listedUnits().map(({ name }) => name),
      );
  });

function shrink({ cluster }: Sandbox, by: number): void {
  for (const { name } of cluster.listedUnits().slice(0, by)) cluster.removeUnit(name);
}

test('a list for which the host has another token_limit than before is read anew', async (t) => {
  let limit = 100;
  const fleetd = await serve(t, (request, response) => {
    const url = new URL(request.url ?? '', 'http://fleet');
    const token = readPageToken(url.searchParams.getAll('nextPageToken'), limit);
    if (typeof token === 'string')
      return respondWith(400, { error: { code: 400, message: token } })(request, response);
    const rows = Array.from({ length: 250 }, (_, n) => ({ name: `${String(n).padStart(4, '0')}.service` }));
    const page = pageOf(rows, token);
    if (page === 'panic') return response.destroy();
    respondWith(200, { units: page.items, ...(page.nextPageToken && { nextPageToken: page.nextPageToken }) })(
      request,
      response,
    );
  });
  const { fleet, cluster } = openNamedFleet(t, [fleetd.url]);
  t.is((await fleet.units(cluster, notAborted())).length, 250);
  limit = 60;
  t.is((await fleet.units(cluster, notAborted())).length, 250);
  t.is((await fleet.units(cluster, notAborted())).length, 250);
});
