import { gzipSync } from 'node:zlib';
import test from 'ava';
import * as fc from 'fast-check';
import {
  readMachine,
  readPage,
  readUnit,
  readUnitState,
} from '../../../src/clusters/fleet/fleet-responses.js';
import { printable } from '../../../src/lib/printable.js';
import { respondWith, serve } from '../../network/http-server.js';
import { UNSAFE } from '../../support/unsafe-characters.js';
import { notAborted, openFleet, openNamedFleet } from './open-fleet.js';

const UNITS = { of: 'units', readRow: readUnit, keyOf: ({ name }: { name: string }) => name } as const;

for (const [what, body, reason] of [
  ['text', '"units"', 'the response is not a map'],
  ['other rows', '{"machines": []}', "it has no 'units'"],
  ['units that are a map', '{"units": {}}', "'units' is not a list"],
  ['units that are text', '{"units": "a.service"}', "'units' is not a list"],
  ['a unit that is null', '{"units": [null]}', "row 1 of 'units' has no name"],
  ['a unit that is text', '{"units": [{"name": "a.service"}, "b"]}', "row 2 of 'units' has no name"],
  ['a unit that is a list', '{"units": [[]]}', "row 1 of 'units' has no name"],
  ['a unit without a name', '{"units": [{"desiredState": "loaded"}]}', "row 1 of 'units' has no name"],
  ['a name that is a number', '{"units": [{"name": 5}]}', "row 1 of 'units' has no name"],
  ['a token that is a number', '{"units": [], "nextPageToken": 2}', "'nextPageToken' is not a string"],
  ['a token that is a list', '{"units": [], "nextPageToken": ["a"]}', "'nextPageToken' is not a string"],
] as const) {
  test(`a page with ${what} is not usable, and is read from another host`, async (t) => {
    const wrong = await serve(t, respondWith(200, body));
    const good = await serve(t, respondWith(200, { units: [{ name: 'a.service' }] }));
    const { fleet, cluster } = openNamedFleet(t, [wrong.url, good.url]);
    t.is((await fleet.units(cluster, notAborted())).length, 1);
    const alone = openNamedFleet(t, [wrong.url]);
    await t.throwsAsync(alone.fleet.units(alone.cluster, notAborted()), {
      code: 'cluster_answer_invalid',
      message: `No host of the cluster answers as fleet does (${wrong.url.host}: HTTP 200 without a content type: ${reason})`,
    });
  });
}

test('a page with nothing but the token that ends the pages is an empty list', async (t) => {
  const server = await serve(t, respondWith(200, { nextPageToken: '' }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  t.deepEqual(await fleet.units(cluster, notAborted()), []);
});

for (const [what, read] of [
  ['a machine', readMachine],
  ['a unit', readUnit],
  ['a unit state', readUnitState],
] as const)
  test(`what is no map is not ${what}`, (t) => {
    for (const row of [null, 7, 'text', []]) t.throws(() => read(row), { message: `${what} is not a map` });
  });

for (const [what, unit, reason] of [
  ['a state that is a map', { currentState: {} }, "'currentState' is not a string"],
  ['a machine that is a number', { machineID: 1 }, "'machineID' is not a string"],
  ['options that are a map', { options: {} }, "a unit's options are not a list"],
  ['an option that is text', { options: ['x'] }, "a unit's option is not a map"],
  ['an option without a section', { options: [{ name: 'x' }] }, "'section' is missing"],
  [
    'an option whose value is a number',
    { options: [{ section: 'S', name: 'x', value: 1 }] },
    "'value' is not a string",
  ],
  [
    'a state that would fill a page',
    { desiredState: 'x'.repeat(257) },
    "'desiredState' has more than 256 characters",
  ],
  [
    'a machine that controls a terminal',
    { machineID: '\u001b[2J' },
    "'machineID' has characters that are not printable",
  ],
] as const) {
  const units = [{ name: 'a.service' }, { name: 'bad.service', ...unit }, { name: 'c.service' }];

  test(`a unit with ${what} is left out of the list, with a warning that names it, the reason and the host`, async (t) => {
    const server = await serve(t, respondWith(200, { units }));
    const { fleet, cluster } = openNamedFleet(t, [server.url, server.url]);
    const warnings: string[] = [];
    const warn = (text: string) => warnings.push(text);
    const listed = await fleet.units(cluster, { warn, ...notAborted() });
    t.deepEqual(
      listed.map(({ name }) => name),
      ['a.service', 'c.service'],
    );
    t.deepEqual(warnings, [
      `Some units of the cluster cannot be read correctly: "bad.service" was left out, because ${reason} (${server.url.host})`,
    ]);
    t.is(server.requests.length, 2, 'a second host was asked too');
  });

  test(`a unit with ${what} is an error that names it for a caller that cannot be warned`, async (t) => {
    const server = await serve(t, respondWith(200, { units }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    const error = await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
    t.true(error?.message.includes(`"bad.service" was left out, because ${reason} (${server.url.host})`));
  });
}

test('a list is read from the host on which every row can be read', async (t) => {
  const wrong = await serve(t, respondWith(200, { units: [{ name: 'a.service', machineID: 1 }] }));
  const good = await serve(t, respondWith(200, { units: [{ name: 'a.service' }] }));
  const { fleet, cluster } = openNamedFleet(t, [wrong.url, good.url]);
  for (let times = 0; times < 3; times++) t.is((await fleet.units(cluster, notAborted())).length, 1);
  t.is(wrong.requests.length, 1);
});

test('a machine that is listed twice has a warning', async (t) => {
  const machines = [
    { id: 'a', primaryIP: '10.0.0.1' },
    { id: 'a', primaryIP: '10.0.0.2' },
  ];
  const server = await serve(t, respondWith(200, { machines }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  const warnings: string[] = [];
  t.is((await fleet.machines(cluster, { warn: (text) => warnings.push(text), ...notAborted() })).length, 1);
  t.regex(warnings.join(), /"a" is listed twice/);
});

for (const [count, more] of [
  [3, ''],
  [4, ', and 1 more'],
  [999, ', and 996 more'],
  [1_000, ', and at least 997 more'],
  [1_100, ', and at least 997 more'],
] as const)
  test(`of ${count} rows that cannot be read three are named`, async (t) => {
    const machines = Array.from({ length: count }, (_, at) => ({ id: `${at}`, metadata: [] }));
    const server = await serve(t, respondWith(200, { machines }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    const warnings: string[] = [];
    const warn = (text: string) => warnings.push(text);
    t.deepEqual(await fleet.machines(cluster, { warn, ...notAborted() }), []);
    const named = [0, 1, 2].map(
      (at) => `"${at}" was left out, because a machine's metadata is not a map (${server.url.host})`,
    );
    t.deepEqual(warnings, [
      `Some machines of the cluster cannot be read correctly: ${named.join(', ')}${more}`,
    ]);
  });

test('a key of metadata is shown short and without what controls a terminal', async (t) => {
  const machines = [{ id: 'a', metadata: { [`\u001b[2Jé${'x'.repeat(100)}`]: 7 } }];
  const server = await serve(t, respondWith(200, { machines }));
  const { fleet, cluster } = openNamedFleet(t, [server.url]);
  const error = await t.throwsAsync(fleet.machines(cluster, notAborted()));
  t.true(error?.message.includes(`because '?[2J?${'x'.repeat(55)}' is not a string (`), error?.message);
});

test('a page that one host does not know is read from another one, also when a row of it is wrong', async (t) => {
  const first = { units: [{ name: 'a.service' }], nextPageToken: 'two' };
  const isFirst = (url = '') => !url.includes('nextPageToken');
  const forgetful = await serve(t, (request, response) => {
    const refusal = { error: { code: 400, message: 'bad token' } };
    respondWith(isFirst(request.url) ? 200 : 400, isFirst(request.url) ? first : refusal)(request, response);
  });
  const odd = await serve(t, (request, response) => {
    const last = { units: [{ name: 'b.service' }, { name: 'odd.service', machineID: 1 }] };
    respondWith(200, isFirst(request.url) ? first : last)(request, response);
  });
  const { fleet, cluster } = openNamedFleet(t, [forgetful.url, odd.url]);
  const warnings: string[] = [];
  const units = await fleet.units(cluster, { warn: (text) => warnings.push(text), ...notAborted() });
  t.deepEqual(
    units.map(({ name }) => name),
    ['a.service', 'b.service'],
  );
  t.is(warnings.length, 1);
});

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

test('a row whose id, address, hash or state controls a terminal, or is longer than real ones, is left out', (t) => {
  const readers = [
    [readMachine, 'machines', ['id', 'primaryIP']],
    [readUnit, 'units', ['desiredState', 'currentState', 'machineID']],
    [
      readUnitState,
      'states',
      ['hash', 'machineID', 'systemdLoadState', 'systemdActiveState', 'systemdSubState'],
    ],
  ] as const;
  for (const [readRow, of, keys] of readers) {
    const reader = { of, readRow: (row: unknown): object => readRow(row), keyOf: String };
    for (const key of keys) {
      const page = (value: string) =>
        readPage({ [of]: [{ name: 'a.service', id: 'a', [key]: value }] }, reader);
      for (const unsafe of UNSAFE) {
        const { value, flaws } = page(`x${unsafe}`);
        t.deepEqual(value.rows, [], key);
        t.regex(flaws.join(), new RegExp(`'${key}' has characters that are not printable$`));
        t.is(flaws.join(), printable(flaws.join()));
      }
      t.deepEqual(page('x'.repeat(257)).value.rows, [], key);
      t.is(page('x'.repeat(256)).value.rows.length, 1, key);
    }
  }
});

test('a single unit or a state that cannot be read is not usable', async (t) => {
  for (const body of ['', '<html>', '{}', '[]', '{"name": 5}', '{"name": "other.service"}']) {
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
    [(row: unknown) => readPage(row, UNITS).value, ['nextPageToken', 'rows']],
  ] as const;
  for (const [read, expected] of readers) {
    fc.assert(
      fc.property(tree, (value) => {
        try {
          t.deepEqual(Object.keys(read(value)).toSorted(), [...expected]);
        } catch (error) {
          t.like(error, { name: 'UnusableResponse', kind: 'invalid' });
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

// Serial: much to compute, while the time limits of other calls would pass.
for (const [what, body, encoding] of [
  ['is larger than 4 MiB', Buffer.alloc(5 * 1024 * 1024, ' '), 'identity'],
  // 64 MiB of spaces in 64 KiB.
  ['is larger than 4 MiB once decompressed', gzipSync(Buffer.alloc(64 * 1024 * 1024, ' ')), 'gzip'],
] as const) {
  test.serial(`a response that ${what} is not usable, and is read from another host`, async (t) => {
    const server = await serve(t, respondWith(200, body, { 'content-encoding': encoding }));
    const good = await serve(t, respondWith(200, {}));
    const { fleet, cluster } = openNamedFleet(t, [server.url, good.url]);
    t.deepEqual(await fleet.units(cluster, notAborted()), []);
    const alone = openNamedFleet(t, [server.url]);
    await t.throwsAsync(alone.fleet.units(alone.cluster, notAborted()), {
      code: 'cluster_answer_invalid',
      message: new RegExp(`${server.url.host}: the response has more than 4194304 bytes`),
    });
  });
}

test.serial('pages that go on and on are abandoned before they fill the memory', async (t) => {
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
    // What was read is forgotten, so that the next list has room again.
    for (let times = 0; times < 2; times++) {
      page = 0;
      await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
    }
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

test('a refusal that fleet never gives to a list is a failure of that host, with its reason, which is cut short', async (t) => {
  for (const status of [400, 404, 405]) {
    const other = await serve(
      t,
      respondWith(status, { error: { code: status, message: `bad ${'x'.repeat(5_000)}` } }),
    );
    const good = await serve(t, respondWith(200, { units: [{ name: 'a.service' }] }));
    const both = openNamedFleet(t, [other.url, good.url]);
    t.is((await both.fleet.units(both.cluster, notAborted())).length, 1);
    const { fleet, cluster } = openNamedFleet(t, [other.url]);
    const error = await t.throwsAsync(fleet.units(cluster, notAborted()), { code: 'cluster_answer_invalid' });
    t.regex(error?.message ?? '', new RegExp(`HTTP ${status} .*bad xxx`));
    t.true((error?.message.length ?? 0) < 500);
    const [host] = (await fleet.hosts(cluster, notAborted())).hosts;
    t.regex(host?.failure ?? '', new RegExp(`HTTP ${status} `));
  }
});

test('an error of fleet without a message is shown by its status, and by a type that is one', async (t) => {
  for (const [status, message, type, shown] of [
    [400, '', 'application/json', 'HTTP 400 application/json'],
    [400, '', '(application/json)', 'HTTP 400 without a content type'],
    [503, '', 'application/json', 'HTTP 503'],
    [503, 7, 'application/json', 'HTTP 503'],
  ] as const) {
    const error = { code: status, message };
    const server = await serve(t, respondWith(status, { error }, { 'content-type': type }));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    const { hosts } = await fleet.hosts(cluster, notAborted());
    t.is(hosts[0]?.failure, shown);
  }
});

test("fleet's reasons cannot control a terminal", async (t) => {
  for (const status of [400, 503]) {
    const server = await serve(
      t,
      respondWith(status, { error: { code: status, message: UNSAFE.join('x') } }),
    );
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    const { message } = (await t.throwsAsync(fleet.units(cluster, notAborted()))) ?? {};
    t.regex(message ?? '', /\\u0000x\\u0001x/);
    t.is(message, printable(message ?? ''));
  }
});

test('a page nested far too deep, or of far more values than one of fleet has, is not usable', async (t) => {
  for (const body of [
    `{"units":[{"name":"a.service","options":${'['.repeat(1_000)}${']'.repeat(1_000)}}]}`,
    `{"units":[{"name":"a.service"}],"others":[${'0,'.repeat(1_000_000)}0]}`,
  ]) {
    const server = await serve(t, respondWith(200, body));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.units(cluster, { warn: () => {}, ...notAborted() }), {
      code: 'cluster_answer_invalid',
    });
  }
});

test.serial(
  'a list with far more rows than fleet can have is refused, also when each of them is wrong',
  async (t) => {
    const page = (at: number) => ({
      units: Array.from({ length: 65_536 }, (_, row) => ({ id: `${at}-${row}` })),
      nextPageToken: `page-${at + 1}`,
    });
    let pages = 0;
    const server = await serve(t, (_request, response) => response.end(JSON.stringify(page(pages++))));
    const { fleet, cluster } = openNamedFleet(t, [server.url]);
    await t.throwsAsync(fleet.units(cluster, { warn: () => {}, ...notAborted() }), {
      code: 'cluster_answer_invalid',
      message: /more than fleet can list/,
    });
    t.is(pages, 5);
  },
);
