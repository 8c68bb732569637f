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
  ['a list', '[]', /must be a JSON object/],
  ['null', 'null', /must be a JSON object/],
  ['text', '"prod"', /must be a JSON object/],
  ['a cluster without endpoints', '{"prod": []}', /no endpoints/],
  ['a name with other characters', '{"a b": ["10.0.0.1"]}', /A-Z a-z 0-9 _ -/],
  ['an empty name', '{"": ["10.0.0.1"]}', /A-Z a-z 0-9 _ -/],
  ['an endpoint that is a number', '{"prod": [7002]}', /7002 is not an endpoint/],
  ['an entry without a token', '{"prod": {"endpoints": ["10.0.0.1"]}}', /entry 1 needs an etcd_token/],
  [
    'a token with other characters',
    '{"a": ["h"], "prod": {"etcd_token": "a b"}}',
    /entry 2 needs an etcd_token/,
  ],
  ['an unknown key', '{"prod": {"etcd_token": "a", "tokens": 1}}', /only etcd_token and endpoints/],
  ['a token that is a name', '{"prod": {"etcd_token": "test"}, "test": ["h"]}', /is also a name/],
  ['a token that is its own name', '{"prod": {"etcd_token": "prod"}}', /is also a name/],
  ['one token with two names', '{"a": {"etcd_token": "x"}, "b": {"etcd_token": "x"}}', /two names/],
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
  test(`a clusters file with ${what} is refused`, (t) => {
    t.throws(() => readClustersFile(text, PORT), { message: problem });
  });
}

for (const [what, text, problem] of [
  ['that is not JSON', '{"secret-token": [http://10.0.0.1]}', /is not JSON/],
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
    const error = t.throws(() => readClustersFile(text, PORT), { message: problem });
    t.false(inspect(error, { depth: 10, showHidden: true }).includes('secret-token'));
  });
}
