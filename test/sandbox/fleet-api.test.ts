import { request } from 'node:http';
import test from 'ava';
import * as fc from 'fast-check';
import { unitFileHash } from '../../src/api/unit-file.js';
import { MACHINE_A, MACHINE_B, openSandbox, service, TWO_MACHINES } from '../support/open-sandbox.js';

interface Page {
  units?: { name: string }[];
  nextPageToken?: string;
}

const JSON_TYPE = { 'content-type': 'application/json' };

test('machines are listed with id, metadata and address', async (t) => {
  const { fleet } = await openSandbox(t, { machines: TWO_MACHINES });
  t.deepEqual(await fleet('/machines'), {
    status: 200,
    body: {
      machines: TWO_MACHINES.map(({ id, metadata, primaryIP }) => ({ id, metadata, primaryIP })),
    },
  });
});

test('a machine without address and metadata is listed with its id only', async (t) => {
  const { fleet } = await openSandbox(t, { machines: [{ id: MACHINE_A, primaryIP: null, metadata: {} }] });
  t.deepEqual((await fleet('/machines')).body, { machines: [{ id: MACHINE_A }] });
});

test('an empty collection is {}', async (t) => {
  const { fleet } = await openSandbox(t, { machines: [], units: [] });
  for (const path of ['/machines', '/units', '/state']) {
    t.deepEqual(await fleet(path), { status: 200, body: {} });
  }
});

test('a unit shows its states, its machine and its options', async (t) => {
  const { fleet } = await openSandbox(t, {
    machines: [{ id: MACHINE_A, primaryIP: '127.0.0.1', metadata: {} }],
    units: [{ name: 'hello.service', options: service('/bin/sleep 100') }],
  });
  const unit = {
    currentState: 'launched',
    desiredState: 'launched',
    machineID: MACHINE_A,
    name: 'hello.service',
    options: [{ name: 'ExecStart', section: 'Service', value: '/bin/sleep 100' }],
  };
  t.deepEqual((await fleet('/units')).body, { units: [unit] });
  t.deepEqual(await fleet('/units/hello.service'), { status: 200, body: unit });
  t.deepEqual((await fleet('/state')).body, {
    states: [
      {
        hash: '1c6fb6f3684bafb0c173d8b8b957ceff031180c1',
        machineID: MACHINE_A,
        name: 'hello.service',
        systemdActiveState: 'active',
        systemdLoadState: 'loaded',
        systemdSubState: 'running',
      },
    ],
  });
});

test('an unscheduled unit has no machineID, an empty option no value', async (t) => {
  const { fleet } = await openSandbox(t, {
    units: [
      {
        name: 'a.service',
        options: [{ section: 'Service', name: 'Environment', value: '' }],
        desiredState: 'inactive',
      },
    ],
  });
  t.deepEqual((await fleet('/units/a.service')).body, {
    currentState: 'inactive',
    desiredState: 'inactive',
    name: 'a.service',
    options: [{ name: 'Environment', section: 'Service' }],
  });
});

test('a global unit has a row per machine; the list calls it inactive, the single GET says nothing', async (t) => {
  const { fleet } = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [{ name: 'agent.service', options: service('/bin/agent', { Global: 'true' }) }],
  });
  const states = (await fleet('/state')).body as { states: { machineID: string }[] };
  t.deepEqual(
    states.states.map(({ machineID }) => machineID),
    [MACHINE_A, MACHINE_B],
  );
  const list = (await fleet('/units')).body as { units: object[] };
  t.like(list.units[0], { currentState: 'inactive', desiredState: 'launched' });
  const single = (await fleet('/units/agent.service')).body;
  t.like(single, { desiredState: 'launched' });
  t.false(Object.hasOwn(single as object, 'currentState'));
  t.false(Object.hasOwn(single as object, 'machineID'));
});

test('state rows are filtered by exact unit name, by machine, and by both', async (t) => {
  const { fleet } = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [
      { name: 'agent.service', options: service('/bin/agent', { Global: 'true' }) },
      { name: 'agent-b.service', options: service('/bin/b', { MachineID: MACHINE_B }) },
    ],
  });
  const rows = async (query: string) => {
    const { states = [] } = (await fleet(`/state?${query}`)).body as {
      states?: { name: string; machineID: string }[];
    };
    return states.map(({ name, machineID }) => `${name} ${machineID.slice(0, 1)}`);
  };
  t.deepEqual(await rows('unitName=agent.service'), ['agent.service a', 'agent.service b']);
  t.deepEqual(await rows(`machineID=${MACHINE_B}`), ['agent-b.service b', 'agent.service b']);
  t.deepEqual(await rows(`machineID=${MACHINE_A}&unitName=agent.service`), ['agent.service a']);
  t.deepEqual(await rows(`machineID=${MACHINE_A}&unitName=agent-b.service`), []);
  t.deepEqual(await rows('unitName=agent'), []);
});

test('GET /state/NAME gives the row, and drops the connection when there is none', async (t) => {
  const { fleet } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  t.like((await fleet('/state/a.service')).body, { name: 'a.service', systemdActiveState: 'active' });
  await t.throwsAsync(fleet('/state/none.service'), { message: 'fetch failed' });
});

test('unit names arrive percent-encoded', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [{ name: 'web@1.service' }, { name: '-.mount' }] });
  t.is((await fleet('/units/web%401.service')).status, 200);
  t.is((await fleet('/units/-.mount')).status, 200);
  t.is((await put('srv-media\\x2darchive.mount', { options: service('x') })).status, 201);
  t.is((await fleet('/units/srv-media%5Cx2darchive.mount')).status, 200);
  t.is((await fleet('/state?unitName=web%401.service')).status, 200);
  t.is((await fleet('/units/%ZZ')).status, 400);
});

test('a unit that does not exist is 404 for GET and DELETE', async (t) => {
  const { fleet } = await openSandbox(t, { units: [] });
  const missing = { status: 404, body: { error: { code: 404, message: 'unit does not exist' } } };
  t.deepEqual(await fleet('/units/a.service'), missing);
  t.deepEqual(await fleet('/units/a.service', { method: 'DELETE' }), missing);
});

test('other paths are 404 with an empty message, other methods 405', async (t) => {
  const { fleet } = await openSandbox(t);
  t.deepEqual(await fleet('/elsewhere'), { status: 404, body: { error: { code: 404, message: '' } } });
  for (const path of ['/units/', '/units/a/b', '/units/a%2Fb', '/state/']) {
    t.is((await fleet(path)).status, 404, path);
  }
  t.is((await fleet('')).status, 405);
  t.is((await fleet('/units', { method: 'POST' })).status, 405);
  t.is((await fleet('/units/a.service', { method: 'PATCH' })).status, 405);
  t.is((await fleet('/state', { method: 'DELETE' })).status, 405);
  t.deepEqual(await fleet('/machines', { method: 'PUT' }), {
    status: 405,
    body: { error: { code: 405, message: 'only GET and PATCH supported against this resource' } },
  });
});

test('261 units come on three pages, ordered by name', async (t) => {
  const { sandbox, fleet } = await openSandbox(t, { units: [] });
  sandbox.cluster.addUnits(261);
  const first = (await fleet('/units')).body as Page;
  t.is(first.units?.length, 100);
  t.is(first.nextPageToken, 'ZAACAA==');
  const second = (await fleet('/units?nextPageToken=ZAACAA==')).body as Page;
  t.is(second.nextPageToken, 'ZAADAA==');
  const third = (await fleet('/units?nextPageToken=ZAADAA%3D%3D')).body as Page;
  t.is(third.units?.length, 61);
  t.is(third.nextPageToken, undefined);
  const names = [first, second, third].flatMap(({ units = [] }) => units).map(({ name }) => name);
  t.is(new Set(names).size, 261);
  t.deepEqual(names, names.toSorted());
});

test('a full last page names one more page, which is empty', async (t) => {
  const { sandbox, fleet } = await openSandbox(t, { units: [] });
  sandbox.cluster.addUnits(200);
  const second = (await fleet('/units?nextPageToken=ZAACAA==')).body as Page;
  t.is(second.units?.length, 100);
  t.is(second.nextPageToken, 'ZAADAA==');
  t.deepEqual(await fleet('/units?nextPageToken=ZAADAA=='), { status: 200, body: {} });
});

test('past the end is 200 {}, until page 657, where the offset overflows and the list starts again', async (t) => {
  const { sandbox, fleet } = await openSandbox(t, { units: [] });
  sandbox.cluster.addUnits(261);
  const page = async (number: number) => {
    const { status, body } = await fleet(`/units?nextPageToken=${encodeURIComponent(tokenOf(100, number))}`);
    t.is(status, 200);
    return body as Page;
  };
  for (const number of [4, 100, 655, 656]) t.deepEqual(await page(number), {}, String(number));
  const again = await page(657);
  // (657 - 1) * 100 = 65,600, which is 64 in sixteen bits.
  t.is(again.units?.[0]?.name, 'load-0065.service');
  t.is(again.units?.length, 100);
  t.is(again.nextPageToken, tokenOf(100, 658));
});

test('machines and state rows are paged as units are', async (t) => {
  const machines = Array.from({ length: 5 }, (_, i) => ({
    id: String(i).repeat(32),
    primaryIP: `127.0.0.${i + 1}`,
    metadata: {},
  }));
  const { sandbox, fleet } = await openSandbox(t, { machines, units: [], pageSize: 3 });
  sandbox.cluster.addUnits(4);
  for (const [path, key, left] of [
    ['/machines', 'machines', 2],
    ['/state', 'states', 1],
  ] as const) {
    const first = (await fleet(path)).body as Record<string, unknown[]>;
    t.is(first[key]?.length, 3);
    const next = (await fleet(`${path}?nextPageToken=${tokenOf(3, 2)}`)).body as Record<string, unknown[]>;
    t.is(next[key]?.length, left);
  }
});

test('a page token that fleet cannot use is 400 with the reason', async (t) => {
  const { fleet } = await openSandbox(t);
  const cases = {
    'nextPageToken=ZAAC': 'unexpected EOF',
    'nextPageToken=': 'EOF',
    'nextPageToken=!!!': 'illegal base64 data',
    'nextPageToken=ZAACAA': 'illegal base64 data',
    [`nextPageToken=${tokenOf(50, 1)}`]: 'token limit must be 100',
    [`nextPageToken=${tokenOf(100, 0)}`]: 'token page must be greater than zero',
    'nextPageToken=ZAACAA==&nextPageToken=ZAACAA==': 'too many values for page token',
  };
  for (const [query, message] of Object.entries(cases)) {
    for (const path of ['/units', '/state', '/machines']) {
      t.deepEqual(await fleet(`${path}?${query}`), { status: 400, body: { error: { code: 400, message } } });
    }
  }
});

test('walking the pages finds every unit once, whatever the page size', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.nat(90), fc.integer({ min: 1, max: 40 }), async (count, pageSize) => {
      const { sandbox, fleet } = await openSandbox(t, { units: [], pageSize });
      const expected = sandbox.cluster.addUnits(count);
      const found: string[] = [];
      let query = '';
      do {
        const { units = [], nextPageToken } = (await fleet(`/units${query}`)).body as Page;
        found.push(...units.map(({ name }) => name));
        query = nextPageToken === undefined ? '' : `?nextPageToken=${encodeURIComponent(nextPageToken)}`;
      } while (query !== '');
      await sandbox.stop();
      t.deepEqual(found, expected);
    }),
    { numRuns: 20 },
  );
});

test('PUT of a new unit is 201 without a body', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [] });
  t.deepEqual(await put('a.service', { desiredState: 'launched', options: service('/bin/a') }), {
    status: 201,
    body: undefined,
  });
  t.like((await fleet('/units/a.service')).body, { desiredState: 'launched' });
});

test('PUT of an existing unit with a desired state is 204, its options sent or not', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [{ name: 'a.service', options: service('/bin/a') }] });
  t.deepEqual(await put('a.service', { desiredState: 'loaded' }), { status: 204, body: undefined });
  t.is((await put('a.service', { desiredState: 'inactive', options: service('/bin/a') })).status, 204);
  t.is((await put('a.service', { desiredState: 'loaded', options: [] })).status, 204);
  t.like((await fleet('/units/a.service')).body, { desiredState: 'loaded' });
});

test('PUT of changed options is 201 and replaces the unit', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [{ name: 'a.service', options: service('/bin/a') }] });
  t.is((await put('a.service', { desiredState: 'launched', options: service('/bin/b') })).status, 201);
  t.like((await fleet('/units/a.service')).body, {
    desiredState: 'launched',
    options: [{ value: '/bin/b' }],
  });
});

test('PUT of changed options without a desired state stops the unit', async (t) => {
  const { clock, fleet, put } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  t.is((await put('a.service', { options: service('/bin/b') })).status, 201);
  clock.advance(1000);
  const { body } = await fleet('/units/a.service');
  t.like(body, { desiredState: 'inactive', currentState: 'inactive' });
  t.deepEqual((await fleet('/state')).body, {});
});

test('PUT of an existing unit without a desired state is 409', async (t) => {
  const { put } = await openSandbox(t, { units: [{ name: 'a.service', options: service('/bin/a') }] });
  const refused = {
    status: 409,
    body: { error: { code: 409, message: 'must provide DesiredState to update existing unit' } },
  };
  t.deepEqual(await put('a.service', {}), refused);
  t.deepEqual(await put('a.service', { options: service('/bin/a') }), refused);
});

test('PUT of a new unit without options is 409', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [] });
  t.deepEqual(await put('a.service', { desiredState: 'launched' }), {
    status: 409,
    body: { error: { code: 409, message: 'unit does not exist and options field empty' } },
  });
  t.is((await fleet('/units/a.service')).status, 404);
});

test('PUT of an unknown desired state is 204 and poisons the unit: GET, PUT and DELETE are 500 from then on', async (t) => {
  const { sandbox, fleet, put } = await openSandbox(t, {
    units: [{ name: 'a.service' }, { name: 'b.service' }],
  });
  t.is((await put('a.service', { desiredState: 'started' })).status, 204);
  const broken = { status: 500, body: { error: { code: 500, message: '' } } };
  t.deepEqual(await fleet('/units/a.service'), broken);
  t.deepEqual(await put('a.service', { desiredState: 'launched' }), broken);
  t.deepEqual(await put('a.service', { desiredState: 'launched', options: service('/bin/new') }), broken);
  t.deepEqual(await fleet('/units/a.service', { method: 'DELETE' }), broken);
  const { units } = (await fleet('/units')).body as Page;
  t.deepEqual(
    units?.map(({ name }) => name),
    ['b.service'],
  );
  t.true(sandbox.cluster.removeUnit('a.service'), 'the test itself can still clear it away');
  t.is((await fleet('/units/a.service')).status, 404);
});

test('creating a unit with an unknown desired state is 500 and creates nothing', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [] });
  t.is((await put('a.service', { desiredState: 'started', options: service('/bin/a') })).status, 500);
  t.is((await fleet('/units/a.service')).status, 404);
});

test('PUT with any content type but application/json, exactly so spelt, is 415', async (t) => {
  const { fleet } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  const body = JSON.stringify({ name: 'a.service', desiredState: 'loaded' });
  for (const type of ['text/plain', 'Application/JSON', 'application/json5', '']) {
    const { status } = await fleet('/units/a.service', {
      method: 'PUT',
      headers: { 'content-type': type },
      body,
    });
    t.is(status, 415, type);
  }
  const untyped = await fleet('/units/a.service', { method: 'PUT', body: new TextEncoder().encode(body) });
  t.deepEqual(untyped, {
    status: 415,
    body: { error: { code: 415, message: 'expected 1 Content-Type, got 0' } },
  });
});

test('PUT is refused for a body that is not a unit, or another unit', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  const bodies = ['', '{', '[]', '"a"', '{"name":1}', '{"options":{}}', '{"options":[{"name":1}]}'];
  for (const body of bodies) {
    t.is((await fleet('/units/a.service', { method: 'PUT', headers: JSON_TYPE, body })).status, 400, body);
  }
  t.deepEqual(await put('a.service', { name: 'b.service', desiredState: 'loaded' }), {
    status: 400,
    body: {
      error: {
        code: 400,
        message: 'name in URL "a.service" differs from unit name in request body "b.service"',
      },
    },
  });
  const nameless = await fleet('/units/a.service', {
    method: 'PUT',
    headers: JSON_TYPE,
    body: '{"desiredState":"loaded"}',
  });
  t.is(nameless.status, 204);
});

test('PUT is refused for a name that fleet refuses', async (t) => {
  const { put } = await openSandbox(t, { units: [] });
  const names = ['a', 'a.', 'a.exe', 'a b.service', '@a.service', 'a@1.mount', `${'a'.repeat(250)}.service`];
  for (const name of names) t.is((await put(name, { options: service('x') })).status, 400, name);
  t.is((await put(`${'a'.repeat(248)}.service`, { options: service('x') })).status, 201);
});

test('a template cannot be started', async (t) => {
  const { fleet, put } = await openSandbox(t, { units: [] });
  t.is((await put('web@.service', { options: service('x'), desiredState: 'inactive' })).status, 201);
  t.like((await put('web@.service', { desiredState: 'launched' })).body, {
    error: { code: 400, message: 'cannot activate template "web@.service"' },
  });
  t.is((await put('web@.service', { desiredState: 'inactive' })).status, 204);
  t.is((await fleet('/units/web%40.service')).status, 200);
});

test('options that contradict each other are 400', async (t) => {
  const { put } = await openSandbox(t, { units: [] });
  const pinned = { MachineID: MACHINE_A };
  const conflictingOptions: Record<string, string>[] = [
    { ...pinned, Global: 'true' },
    { ...pinned, MachineOf: 'b.service' },
    { ...pinned, Conflicts: 'b*' },
    { Global: 'true', MachineOf: 'b.service' },
  ];
  for (const fleetOptions of conflictingOptions) {
    t.is((await put('a.service', { options: service('x', fleetOptions) })).status, 400);
  }
});

test('a body larger than the sandbox reads is 413, and the connection still ends in order', async (t) => {
  const { sandbox } = await openSandbox(t);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const put = request(
      `http://127.0.0.1:${sandbox.fleetPort}/fleet/v1/units/a.service`,
      { method: 'PUT', headers: JSON_TYPE },
      (response) => resolve(response.statusCode),
    );
    put.on('error', reject);
    put.end('x'.repeat(1024 * 1024 + 1));
  });
  t.is(status, 413);
});

test('DELETE is 204: the unit is deleted immediately, its state rows remain for a while', async (t) => {
  const { clock, fleet } = await openSandbox(t, { units: [{ name: 'a.service' }] });
  t.deepEqual(await fleet('/units/a.service', { method: 'DELETE' }), { status: 204, body: undefined });
  t.is((await fleet('/units/a.service')).status, 404);
  t.deepEqual((await fleet('/units')).body, {});
  t.like((await fleet('/state?unitName=a.service')).body, { states: [{ systemdActiveState: 'active' }] });
  clock.advance(150);
  t.deepEqual((await fleet('/state')).body, {});
});

test('a unit that is deleted and created again shows rows of the old unit file at first', async (t) => {
  const { clock, fleet, put } = await openSandbox(t, {
    units: [{ name: 'a.service', options: service('/bin/old') }],
  });
  const hash = async () => {
    const { states = [] } = (await fleet('/state')).body as { states?: { hash: string }[] };
    return states.map((row) => row.hash);
  };
  await fleet('/units/a.service', { method: 'DELETE' });
  await put('a.service', { desiredState: 'launched', options: service('/bin/new') });
  t.deepEqual(await hash(), [unitFileHash(service('/bin/old'))]);
  clock.advance(200);
  t.deepEqual(await hash(), [unitFileHash(service('/bin/new'))]);
});

test('PATCH /machines adds, replaces and removes metadata, whose value is nested', async (t) => {
  const { fleet } = await openSandbox(t, { machines: TWO_MACHINES });
  const patch = (operations: object) =>
    fleet('/machines', { method: 'PATCH', headers: JSON_TYPE, body: JSON.stringify(operations) });
  const answer = await patch([
    { op: 'add', path: `/${MACHINE_A}/metadata/disk`, value: { value: 'ssd' } },
    { op: 'replace', path: `/${MACHINE_A}/metadata/role`, value: { value: 'worker' } },
    { op: 'remove', path: `/${MACHINE_A}/metadata/region` },
  ]);
  t.deepEqual(answer, { status: 204, body: undefined });
  t.like((await fleet('/machines')).body, {
    machines: [
      { metadata: { disk: 'ssd', role: 'worker' } },
      { metadata: { role: 'data', region: 'north' } },
    ],
  });
});

test('PATCH /machines is atomic: one bad operation is 400', async (t) => {
  const { fleet } = await openSandbox(t, { machines: TWO_MACHINES });
  const good = { op: 'add', path: `/${MACHINE_A}/metadata/disk`, value: { value: 'ssd' } };
  const bad = [
    { ...good, op: 'move' },
    { ...good, path: `/${MACHINE_A}/disk` },
    { ...good, value: 'ssd' },
    { ...good, value: { value: '' } },
  ];
  for (const operation of bad) {
    const body = JSON.stringify([good, operation]);
    t.is((await fleet('/machines', { method: 'PATCH', headers: JSON_TYPE, body })).status, 400, body);
  }
  t.is((await fleet('/machines', { method: 'PATCH', headers: JSON_TYPE, body: '{' })).status, 400);
  t.false(JSON.stringify((await fleet('/machines')).body).includes('ssd'));
});

function tokenOf(limit: number, page: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page, 2);
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

test('after an outage fleet lists only some machines and states, and units without a state as inactive, for a time', async (t) => {
  const { fleet, sandbox, clock } = await openSandbox(t, {
    machines: TWO_MACHINES,
    units: [{ name: 'a.service' }, { name: 'b.service' }],
  });
  const lists = async () => {
    const [machines, states, units] = await Promise.all(
      ['/machines', '/state', '/units'].map(async (path) => (await fleet(path)).body),
    );
    return {
      machines: (machines as { machines?: unknown[] }).machines?.length,
      states: (states as { states?: unknown[] }).states?.length,
      units: (units as { units?: { currentState: string }[] }).units?.map(({ currentState }) => currentState),
    };
  };
  const whole = { machines: 2, states: 2, units: ['launched', 'launched'] };
  t.deepEqual(await lists(), whole);
  sandbox.cluster.recover({ machines: 1, states: 1, lasts: 24_000 });
  t.deepEqual(await lists(), { machines: 1, states: 1, units: ['launched', 'inactive'] });
  clock.advance(24_000);
  t.deepEqual(await lists(), whole);
});

test('a page begins at any offset that 16 bits can express', async (t) => {
  const { fleet, sandbox } = await openSandbox(t, { units: [] });
  const names = sandbox.cluster.addUnits(200);
  const page = (number: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt16LE(100, 0);
    bytes.writeUInt16LE(number, 2);
    return fleet(`/units?nextPageToken=${encodeURIComponent(bytes.toString('base64'))}`);
  };
  // The number whose offset, calculated with 16 bits, is 92.
  const number = Array.from({ length: 65_535 }, (_, index) => index + 1).find(
    (each) => each > 1 && ((each - 1) * 100) % 65_536 === 92,
  );
  const { units = [] } = (await page(number ?? 0)).body as Page;
  t.deepEqual(
    units.map(({ name }) => name),
    names.slice(92, 192),
  );
});
