import { inspect } from 'node:util';
import test from 'ava';
import { readClustersFile } from '../../src/clusters/clusters-file.js';

const PORT = 7002;

const hrefs = (text: string) =>
  Object.fromEntries(
    [...readClustersFile(text, PORT).endpoints].map(([name, endpoints]) => [
      name,
      endpoints.map(({ href }) => href),
    ]),
  );

for (const [endpoint, href] of [
  ['10.0.0.1', 'http://10.0.0.1:7002/'],
  ['10.0.0.1:49153', 'http://10.0.0.1:49153/'],
  ['node1.example.com', 'http://node1.example.com:7002/'],
  ['[2001:db8::1]', 'http://[2001:db8::1]:7002/'],
  ['[2001:db8::80]:49153', 'http://[2001:db8::80]:49153/'],
  ['http://10.0.0.1', 'http://10.0.0.1:7002/'],
  ['http://10.0.0.1:49153', 'http://10.0.0.1:49153/'],
  ['https://fleet.example.com', 'https://fleet.example.com:7002/'],
  // An explicit default port of a scheme is kept.
  ['http://10.0.0.1:80', 'http://10.0.0.1/'],
  ['http://10.0.0.1:80/', 'http://10.0.0.1/'],
  ['https://fleet.example.com:443/clusters/a', 'https://fleet.example.com/clusters/a'],
  // The port of another URL in the path is not its port.
  ['http://proxy.example.com/http://10.0.0.1:80/', 'http://proxy.example.com:7002/http://10.0.0.1:80/'],
  ['http://fleet.example.com/clusters/a', 'http://fleet.example.com:7002/clusters/a'],
] as const) {
  test(`the endpoint ${endpoint} means ${href}`, (t) => {
    t.deepEqual(hrefs(JSON.stringify({ prod: [endpoint] })), { prod: [href] });
  });
}

test('a file names several clusters, each with its endpoints in order', (t) => {
  t.deepEqual(hrefs('{"prod": ["10.0.0.2", "10.0.0.1"], "test_1": "10.0.0.9", "__proto__": ["10.0.0.8"]}'), {
    prod: ['http://10.0.0.2:7002/', 'http://10.0.0.1:7002/'],
    test_1: ['http://10.0.0.9:7002/'],
    ['__proto__']: ['http://10.0.0.8:7002/'],
  });
  t.deepEqual(hrefs('{}'), {});
});

test('a cluster that discovery finds can have a name, which callers use in place of its token', (t) => {
  const { endpoints, tokens, names } = readClustersFile(
    '{"prod": {"etcd_token": "abc"}, "test": {"etcd_token": "def", "endpoints": "10.0.0.1"}, "lab": ["10.0.0.2"]}',
    PORT,
  );
  t.deepEqual(
    [...tokens],
    [
      ['prod', 'abc'],
      ['test', 'def'],
    ],
  );
  t.deepEqual(
    [...names],
    [
      ['abc', 'prod'],
      ['def', 'test'],
      ['lab', 'lab'],
    ],
  );
  t.deepEqual(
    [...endpoints].map(([token, urls]) => [token, urls.join()]),
    [
      ['def', 'http://10.0.0.1:7002/'],
      ['lab', 'http://10.0.0.2:7002/'],
    ],
  );
});

test('a key that looks like an etcd token is no name, since a name is shown', (t) => {
  for (const token of ['0123456789abcdef'.repeat(2), '01234567-89ab-cdef-0123-456789abcdef']) {
    const { endpoints, names } = readClustersFile(`{"${token}": ["10.0.0.1"]}`, PORT);
    t.true(endpoints.has(token));
    t.is(names.size, 0);
  }
});

for (const [what, text, problem] of [
  ['a cluster without endpoints', '{"prod": []}', /no endpoints/],
  ['a name with other characters', '{"a b": ["10.0.0.1"]}', /A-Z a-z 0-9 _ -/],
  ['an empty name', '{"": ["10.0.0.1"]}', /A-Z a-z 0-9 _ -/],
  ['an endpoint that is a number', '{"prod": [7002]}', /7002 is not an endpoint/],
  [
    'an entry without a token',
    '{"prod": {"endpoints": ["10.0.0.1"]}}',
    /^line 1, column 2: it needs an etcd_token/,
  ],
  [
    'a token with other characters',
    '{"a": ["h"], "prod": {"etcd_token": "a b"}}',
    /^line 1, column 14: it needs an etcd_token/,
  ],
  [
    'an unknown key',
    '{"prod": {"etcd_token": "a", "tokens": 1}}',
    /may have only kind, etcd_token, endpoints/,
  ],
  ['a token that is a name', '{"prod": {"etcd_token": "test"}, "test": ["h"]}', /is also a name/],
  ['a token that is its own name', '{"prod": {"etcd_token": "prod"}}', /is also a name/],
  [
    'one token with two names',
    '{"a": {"etcd_token": "x"}, "b": {"etcd_token": "x"}}',
    /another name has the same/,
  ],
  ['a named cluster without endpoints', '{"a": {"etcd_token": "x", "endpoints": []}}', /no endpoints/],
  [
    'an endpoint that is an object',
    '{"prod": [{"url": "http://h"}]}',
    /a list or an object is not an endpoint/,
  ],
  ['an endpoint that is null', '{"prod": null}', /null is not an endpoint/],
  ['an empty endpoint', '{"prod": [""]}', /"" is not an endpoint/],
  ['an endpoint with a space', '{"prod": ["10.0.0.1 10.0.0.2"]}', /is not an endpoint/],
  ['an IPv6 address without brackets', '{"prod": ["2001:db8::1"]}', /is not an endpoint/],
  ['a port that is none', '{"prod": ["10.0.0.1:70000"]}', /is not an endpoint/],
  ['another scheme', '{"prod": ["ftp://10.0.0.1"]}', /neither http nor https/],
  ['a query', '{"prod": ["http://10.0.0.1/?a=b"]}', /without a query or a fragment/],
  ['a fragment', '{"prod": ["http://10.0.0.1/#a"]}', /without a query or a fragment/],
] as const) {
  test(`an entry of a clusters file with ${what} cannot be used, and the others can`, (t) => {
    const others = { before: ['10.1.0.1'], after: { kind: 'systemd', machines: [{ host: '10.1.0.2' }] } };
    for (const given of [text, text.replace(/\}$/, `,${JSON.stringify(others).slice(1)}`)]) {
      const { endpoints, machines, problems, unusable } = readClustersFile(given, PORT);
      t.is(problems.length, 1);
      t.regex(String(problems[0]), problem);
      t.regex(String(problems[0]), /^line 1, column \d+: /);
      t.is(unusable.size, 1);
      if (given === text) continue;
      t.true(endpoints.has('before'));
      t.deepEqual(machines.get('after'), [{ host: '10.1.0.2', metadata: {} }]);
    }
  });
}

for (const text of ['[]', 'null', '"prod"', 'prod', '', '- a: 1'])
  test(`a clusters file that is ${text === '' ? 'empty' : text} is refused`, (t) => {
    t.throws(() => readClustersFile(text, PORT), { message: /must be an object/ });
  });

test('a cluster of plain systemd hosts has machines, in YAML too, with logins of their own', (t) => {
  const { machines, logins, names, problems, endpoints } = readClustersFile(
    `
# The hosts of the laboratory.
lab:
  kind: systemd
  machines:
    - { host: 10.0.0.11, metadata: { role: web, region: eu } }
    - { host: DB1.example.org, port: 2222, user: admin, metadata: { role: db } }
old:
  kind: fleet
  etcd_token: abc
local: { kind: fleet, endpoints: [10.0.0.9] }
`,
    PORT,
  );
  t.deepEqual(problems, []);
  t.deepEqual(machines.get('lab'), [
    { host: '10.0.0.11', metadata: { role: 'web', region: 'eu' } },
    { host: 'DB1.example.org', metadata: { role: 'db' } },
  ]);
  t.deepEqual(logins.get('db1.example.org'), { port: 2_222, user: 'admin' });
  t.deepEqual(
    [...names],
    [
      ['lab', 'lab'],
      ['abc', 'old'],
      ['local', 'local'],
    ],
  );
  t.true(endpoints.has('local'));
});

for (const [what, entry, problem] of [
  ['of another kind', '{ kind: docker }', /line 2, column 14: the kind of a cluster is fleet or systemd/],
  ['without machines', '{ kind: systemd }', /it needs machines/],
  ['with an empty list', '{ kind: systemd, machines: [] }', /line 2, column 33: it needs machines/],
  ['with a host as text', '{ kind: systemd, machines: [10.0.0.1] }', /a machine is an object with host/],
  [
    'with a wrong host',
    '{ kind: systemd, machines: [{ host: a b }] }',
    /line 2, column 42: a machine needs a host/,
  ],
  [
    'with a number in metadata',
    '{ kind: systemd, machines: [{ host: h, metadata: { a: 1 } }] }',
    /quote numbers/,
  ],
  ['with a wrong port', '{ kind: systemd, machines: [{ host: h, port: 70000 }] }', /port must be a number/],
  ['with a wrong user', '{ kind: systemd, machines: [{ host: h, user: -oA }] }', /user must be the name/],
  ['with an unknown key', '{ kind: systemd, machines: [{ host: h, ports: 1 }] }', /and no other key/],
  ['with a host twice', '{ kind: systemd, machines: [{ host: h }, { host: H }] }', /twice/],
  [
    'with a token',
    '{ kind: systemd, etcd_token: a, machines: [{ host: h }] }',
    /may have only kind, machines/,
  ],
  [
    'with the host of another entry and another user',
    '{ kind: systemd, machines: [{ host: x, user: root }] }',
    /another entry has this host with another port or user/,
  ],
] as const)
  test(`an entry ${what} is named with its place`, (t) => {
    const { problems, machines } = readClustersFile(
      `good: { kind: systemd, machines: [{ host: x }] }\nbad: ${entry}\n`,
      PORT,
    );
    t.is(problems.length, 1);
    t.regex(String(problems[0]), /^line 2, column \d+: /);
    t.regex(String(problems[0]), problem);
    t.deepEqual([...machines.keys()], ['good']);
  });

for (const [what, text, problem] of [
  ['that is not YAML', '{"secret-token": [http://10.0.0.1}', /line 1, column \d+/],
  ['with a malformed name', '{"secret-token!": ["10.0.0.1"]}', /cluster name/],
  ['with a malformed endpoint', '{"secret-token": [" "]}', /is not an endpoint/],
  [
    'with a token in place of a name',
    `{"${'a'.repeat(32)}": {"etcd_token": "secret-token"}}`,
    /looks like an etcd token/,
  ],
  ['with a malformed token', '{"secret-token": {"etcd_token": "secret-token!"}}', /needs an etcd_token/],
  ['with a token that is a name', '{"secret-token": {"etcd_token": "secret-token"}}', /is also a name/],
  [
    'with a password in an endpoint',
    '{"prod": ["http://user:secret-token@10.0.0.1"]}',
    /user name or password/,
  ],
  [
    'with a slash in a password',
    '{"prod": ["http://user:12/secret-token@10.0.0.1"]}',
    /user name or password/,
  ],
  ['with a password without a scheme', '{"prod": ["user:secret-token@10.0.0.1"]}', /user name or password/],
] as const) {
  test(`the error of a clusters file ${what} does not report secrets`, (t) => {
    let said;
    try {
      said = readClustersFile(text, PORT).problems.join();
    } catch (error) {
      said = inspect(error, { depth: 10, showHidden: true });
    }
    t.regex(said, problem);
    t.false(said.includes('secret-token'));
  });
}
