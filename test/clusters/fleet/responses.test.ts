import { gzipSync } from 'node:zlib';
import test from 'ava';
import * as fc from 'fast-check';
import {
  readMachine,
  readPage,
  readUnit,
  readUnitState,
} from '../../../src/clusters/fleet/fleet-responses.js';
import { respondWith, serve } from '../../network/http-server.js';
import { notAborted, openFleet, openNamedFleet } from './open-fleet.js';

for (const [what, body] of [
  ['nothing', ''],
  ['HTML', '<html>'],
  ['half a JSON text', '{"units": [{"name": "a.serv'],
  ['text', '"units"'],
  ['null', 'null'],
  ['a number', '7'],
  ['a list', '[]'],
  ['units that are a map', '{"units": {}}'],
  ['units that are text', '{"units": "a.service"}'],
  ['a unit that is null', '{"units": [null]}'],
  ['a unit that is text', '{"units": ["a.service"]}'],
  ['a unit that is a list', '{"units": [[]]}'],
  ['a unit without a name', '{"units": [{"desiredState": "loaded"}]}'],
  ['a name that is a number', '{"units": [{"name": 5}]}'],
  ['a state that is a map', '{"units": [{"name": "a.service", "currentState": {}}]}'],
  ['a machine that is a number', '{"units": [{"name": "a.service", "machineID": 1}]}'],
  ['options that are a map', '{"units": [{"name": "a.service", "options": {}}]}'],
  ['an option that is text', '{"units": [{"name": "a.service", "options": ["x"]}]}'],
  ['an option without a section', '{"units": [{"name": "a.service", "options": [{"name": "x"}]}]}'],
  [
    'an option whose value is a number',
    '{"units": [{"name": "a.service", "options": [{"section": "S", "name": "x", "value": 1}]}]}',
  ],
  ['a token that is a number', '{"units": [], "nextPageToken": 2}'],
  ['a token that is a list', '{"units": [], "nextPageToken": ["ZAACAA=="]}'],
] as const) {
  test(`a response of ${what} is not usable`, async (t) => {
    const server = await serve(t, respondWith(200, body));
    const { fleet, cluster } = openNamedFleet(t, [server.url, server.url]);
    await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
    t.is(server.requests.length, 1, 'it is a response: no other host is asked');
  });
}

for (const [what, machine] of [
  ['no id', { primaryIP: '10.0.0.1' }],
  ['an address that is a list', { id: 'a', primaryIP: [] }],
  ['metadata that is a list', { id: 'a', metadata: [] }],
  ['metadata that is text', { id: 'a', metadata: 'region=eu' }],
  ['a piece of metadata that is a number', { id: 'a', metadata: { cores: 4 } }],
  ['a piece of metadata that is null', { id: 'a', metadata: { region: null } }],
] as const) {
  test(`a response with a machine that has ${what} is not usable`, async (t) => {
    const server = await serve(t, respondWith(200, { machines: [machine] }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.machines(cluster, notAborted()), { code: 'cluster_answer_invalid' });
  });
}

test('a single unit or a state that cannot be read is not usable', async (t) => {
  for (const body of ['', '<html>', '{}', '[]', '{"name": 5}']) {
    const server = await serve(t, respondWith(200, body));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.unit(cluster, 'a.service', notAborted()), { code: 'cluster_answer_invalid' });
  }
  const server = await serve(t, respondWith(200, { states: [{ name: 'a.service', hash: 5 }] }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  await t.throwsAsync(fleet.unitStates(cluster, notAborted()), { code: 'cluster_answer_invalid' });
});

test('any page is either read into rows with all their keys, or refused', (t) => {
  const keys = [
    'name',
    'id',
    'options',
    'section',
    'value',
    'desiredState',
    'machineID',
    'metadata',
    'hash',
    '__proto__',
  ];
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, 7, true, '', 'text'),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...keys), tie('tree'), { maxKeys: 6 }),
    ),
  }));
  const readers = [
    [readMachine, ['id', 'metadata', 'primaryIP']],
    [readUnit, ['currentState', 'desiredState', 'machineID', 'name', 'options']],
    [
      readUnitState,
      ['hash', 'machineID', 'name', 'systemdActiveState', 'systemdLoadState', 'systemdSubState'],
    ],
    [(row: unknown) => readPage(row, 'units'), ['nextPageToken', 'rows']],
  ] as const;
  for (const [read, expected] of readers) {
    fc.assert(
      fc.property(tree, (value) => {
        try {
          t.deepEqual(Object.keys(read(value)).toSorted(), [...expected]);
        } catch (error) {
          t.like(error, { code: 'cluster_answer_invalid' });
        }
      }),
    );
  }
});

test('a row has the same keys whichever of them fleet leaves out, with null for the missing ones', (t) => {
  const text = fc.string({ minLength: 1 });
  const state = fc.record(
    {
      name: text,
      hash: text,
      machineID: text,
      systemdLoadState: text,
      systemdActiveState: text,
      systemdSubState: text,
    },
    { requiredKeys: ['name'] },
  );
  const nothing = {
    hash: null,
    machineID: null,
    systemdLoadState: null,
    systemdActiveState: null,
    systemdSubState: null,
  };
  fc.assert(fc.property(state, (row) => t.deepEqual(readUnitState(row), { ...nothing, ...row })));
  const unit = fc.record(
    { name: text, desiredState: text, currentState: text, machineID: text },
    { requiredKeys: ['name'] },
  );
  const unset = { options: [], desiredState: null, currentState: null, machineID: null };
  fc.assert(fc.property(unit, (row) => t.deepEqual(readUnit(row), { ...unset, ...row })));
  const metadata = fc.dictionary(fc.oneof(text, fc.constant('__proto__')), text);
  const machine = fc.record({ id: text, primaryIP: text, metadata }, { requiredKeys: ['id'] });
  fc.assert(
    fc.property(machine, (row) => {
      const read = readMachine(row);
      t.is(read.primaryIP, row.primaryIP ?? null);
      t.deepEqual(Object.entries(read.metadata), Object.entries(row.metadata ?? {}));
    }),
  );
});

for (const [what, body, encoding] of [
  ['is larger than 4 MiB', Buffer.alloc(5 * 1024 * 1024, ' '), 'identity'],
  // 64 MiB of spaces in 64 KiB.
  ['is larger than 4 MiB once decompressed', gzipSync(Buffer.alloc(64 * 1024 * 1024, ' ')), 'gzip'],
] as const) {
  test(`a response that ${what} is not usable, and is requested once`, async (t) => {
    const server = await serve(t, respondWith(200, body, { 'content-encoding': encoding }));
    const { fleet, cluster } = openNamedFleet(t, [server.url, server.url]);
    await t.throwsAsync(fleet.units(cluster, notAborted()), {
      code: 'cluster_answer_invalid',
      message: /more than 4194304 bytes/,
    });
    t.is(server.requests.length, 1);
  });
}

test('pages that go on and on are abandoned before they fill the memory', async (t) => {
  const unit = {
    name: 'a.service',
    options: [{ section: 'Service', name: 'X', value: 'x'.repeat(1024 * 1024) }],
  };
  const server = await serve(t, respondWith(200, { units: [unit, unit, unit], nextPageToken: 'on and on' }));
  let page = 0;
  const endless = await serve(t, (request, response) =>
    respondWith(200, { units: [unit, unit, unit], nextPageToken: `page ${++page}` })(request, response),
  );
  for (const { url } of [server, endless]) {
    const { fleet, cluster } = openNamedFleet(t, [url]);
    await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
  }
  t.true(page > 5 && page < 15);
});

test('a compressed response of reasonable size is read', async (t) => {
  const body = gzipSync(JSON.stringify({ machines: [{ id: 'a' }] }));
  const server = await serve(t, respondWith(200, body, { 'content-encoding': 'gzip' }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.is((await fleet.machines(cluster, notAborted())).length, 1);
});

test('invalid and truncated responses of a sandbox are distinguished', async (t) => {
  const { fleet, cluster, sandbox } = await openFleet(t);
  sandbox.cluster.fail({ kind: 'garbage', times: 1 });
  await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
  sandbox.cluster.fail({ kind: 'truncate', times: 1 });
  await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_unreachable' });
});

test('a redirect is refused, and its target is never contacted', async (t) => {
  const target = await serve(t, respondWith(200, { machines: [{ id: 'a' }] }));
  for (const status of [301, 302, 303, 307, 308]) {
    const server = await serve(t, respondWith(status, '', { location: target.url.href }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.machines(cluster, notAborted()), {
      code: 'cluster_refused',
      message: new RegExp(`${status}`),
    });
    await t.throwsAsync(fleet.unit(cluster, 'a.service', notAborted()), { code: 'cluster_refused' });
    t.is(server.requests.length, 2);
  }
  t.is(target.connections(), 0);
});

test("fleet's refusal is reported with its status and reason, which is cut short", async (t) => {
  const server = await serve(
    t,
    respondWith(400, { error: { code: 400, message: `bad token ${'x'.repeat(5_000)}` } }),
  );
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  const error = await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_refused' });
  t.regex(error?.message ?? '', /HTTP status 400: bad token xxx/);
  t.true((error?.message.length ?? 0) < 500);
});

for (const body of [
  '',
  '<html>',
  '[]',
  '{"error": null}',
  '{"error": {}}',
  '{"error": {"message": 7}}',
  '{"error": "x"}',
]) {
  test(`a refusal whose body is '${body}' is reported with its status`, async (t) => {
    const server = await serve(t, respondWith(403, body));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.units(cluster, notAborted()), {
      code: 'cluster_refused',
      message: /HTTP status 403$/,
    });
  });
}
