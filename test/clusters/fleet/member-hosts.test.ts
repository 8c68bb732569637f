import test from 'ava';
import * as fc from 'fast-check';
import { memberHosts } from '../../../src/clusters/fleet/member-hosts.js';

/** The response of etcd's v2 API for a discovery directory with these values. */
function discoveryAnswer(values: readonly unknown[]): unknown {
  const nodes = values.map((value, index) => ({
    key: `/discovery/t/${index}`,
    value,
    modifiedIndex: 1,
    createdIndex: 1,
  }));
  return { action: 'get', node: { key: '/discovery/t', dir: true, ...(nodes.length > 0 ? { nodes } : {}) } };
}

for (const [value, hosts] of [
  ['node1=http://10.0.0.1:2380', ['10.0.0.1']],
  ['http://10.0.0.1:7001', ['10.0.0.1']],
  ['node1=https://node1.example.com:2380', ['node1.example.com']],
  ['node1=http://[2001:db8::1]:2380', ['2001:db8::1']],
  ['node1=http://10.0.0.1:2380,node1=http://10.0.0.2:2380', ['10.0.0.1', '10.0.0.2']],
  ['http://10.0.0.1:2380, http://10.0.0.2:2380', ['10.0.0.1', '10.0.0.2']],
  [' Yiw://:B_=http://10.0.0.1:2380,udp://a=http://10.0.0.2:2380', ['10.0.0.1', '10.0.0.2']],
  ['=http://10.0.0.1:2380', ['10.0.0.1']],
  ['node1=http://10.0.0.1:2380,node1=http://10.0.0.1:2379', ['10.0.0.1']],
  ['http://10.0.0.1:7001/v2?name=a=b', ['10.0.0.1']],
  ['node1=http://10.0.0.1:2380/?name=a=b', ['10.0.0.1']],
  ['node1=http://10.0.0.1', ['10.0.0.1']],
  // An address in any form is checked in the form that is connected to.
  ['node1=http://0x7f.1:2380', ['127.0.0.1']],
  ['node1=http://user:password@10.0.0.1:2380', ['10.0.0.1']],
  ['node1=http://node_1.lan:2380', ['node_1.lan']],
  ['node1=http://db.example.org.:2380', ['db.example.org.']],
] as const) {
  test(`the member ${value} is at ${hosts.join(' and ')}`, (t) => {
    t.deepEqual(memberHosts(discoveryAnswer([value])), { hosts: [...hosts], ignored: [], moreIgnored: 0 });
  });
}

test('hosts are found in every form of value, each once, in any mixture', (t) => {
  const host = fc.oneof(fc.ipV4(), fc.domain(), fc.ipV6());
  const name = fc
    .stringMatching(/^[A-Za-z0-9_.:/ -]{0,12}$/)
    .filter((text) => !/^\s*https?:\/\//i.test(text));
  const peer = fc.record({
    host,
    scheme: fc.constantFrom('http', 'https', 'HTTP'),
    port: fc.integer({ min: 1, max: 65_535 }),
    name: fc.option(name),
    path: fc.constantFrom('', '/'),
  });
  type Peer = typeof peer extends fc.Arbitrary<infer P> ? P : never;
  const valueOf = (peers: Peer[]) =>
    peers
      .map((each) => {
        const at = each.host.includes(':') ? `[${each.host}]` : each.host;
        const url = `${each.scheme}://${at}:${each.port}${each.path}`;
        return each.name === null ? url : `${each.name}=${url}`;
      })
      .join(',');
  fc.assert(
    fc.property(fc.array(fc.array(peer, { minLength: 1, maxLength: 3 }), { minLength: 1 }), (members) => {
      const expected = new Set(members.flat().map((each) => plainHost(each.host)));
      t.deepEqual(memberHosts(discoveryAnswer(members.map(valueOf))), {
        hosts: [...expected],
        ignored: [],
        moreIgnored: 0,
      });
    }),
  );
});

test('a member without a usable address is ignored, and named', (t) => {
  const values = [
    'nonsense',
    'node=',
    'node2=http://user:password@a..b:2380',
    'node3=http://\u009bm',
    'node1=http://10.0.0.1:2380',
    `node4=${'x'.repeat(1_000)}`,
    7,
  ];
  t.deepEqual(memberHosts(discoveryAnswer(values)), {
    hosts: ['10.0.0.1'],
    ignored: [
      "'nonsense'",
      "''",
      "'http://a..b:2380'",
      "'http://?m'",
      `'${'x'.repeat(100)}'`,
      'a value that is not text',
    ],
    moreIgnored: 0,
  });
});

test('when no member has a usable address, the error names them', (t) => {
  t.throws(() => memberHosts(discoveryAnswer(['node1=http://a..b', 'nonsense'])), {
    message: /none of its members has a valid host: 'http:\/\/a\.\.b', 'nonsense'/,
  });
});

test('of many members without a usable address the error names five', (t) => {
  const values = Array.from({ length: 6 }, (_, at) => `bad-${at}`);
  t.throws(() => memberHosts(discoveryAnswer(values)), {
    message: /valid host: 'bad-0', 'bad-1', 'bad-2', 'bad-3', 'bad-4'$/,
  });
});

test('a member may have 64 URLs, each of 2,048 characters', (t) => {
  const hostsOf = (value: string) => memberHosts(discoveryAnswer(['http://10.0.1.1', value])).hosts.slice(1);
  const urls = (count: number) => Array.from({ length: count }, (_, at) => `http://10.0.0.${at}:2380`).join();
  t.is(hostsOf(urls(64)).length, 64);
  t.is(hostsOf(urls(65)).length, 0);
  const long = `http://10.0.0.1/${'x'.repeat(2_048 - 16)}`;
  t.deepEqual(hostsOf(long), ['10.0.0.1']);
  t.deepEqual(hostsOf(`${long}x`), []);
});

test('at most 256 hosts are taken from one response; the first others are named, and the rest counted', (t) => {
  const values = Array.from({ length: 1_000 }, (_, index) => `http://10.0.${index >> 8}.${index & 255}:2380`);
  const { hosts, ignored, moreIgnored } = memberHosts(discoveryAnswer(values));
  t.is(hosts.length, 256);
  t.deepEqual(ignored.slice(0, 2), ['10.0.1.0', '10.0.1.1']);
  t.is(ignored.length + moreIgnored, 744);
});

test('what a member writes costs no more than what is shown of it', (t) => {
  const good = 'node1=http://10.0.0.1:2380';
  const huge = [','.repeat(10_000_000), 'http://10.0.0.2'.repeat(100_000), `http://${'a'.repeat(3_000)}/`];
  const { hosts, ignored } = memberHosts(discoveryAnswer([good, ...huge]));
  t.deepEqual(hosts, ['10.0.0.1']);
  t.is(ignored[0], 'a value with more than 64 URLs');
  t.true(ignored.every((text) => text.length <= 102));
  const many = memberHosts(
    discoveryAnswer([good, ...Array.from({ length: 100_000 }, (_, at) => `a://${at}`)]),
  );
  t.deepEqual(many.hosts, ['10.0.0.1']);
  t.is(many.ignored.length, 50);
  t.is(many.moreIgnored, 100_000 - 50);
});

test('after 2,048 URLs the members of a response are only counted', (t) => {
  const { hosts, ignored, moreIgnored } = memberHosts(
    discoveryAnswer(Array.from({ length: 5_000 }, () => 'node1=http://10.0.0.1:2380')),
  );
  t.deepEqual(hosts, ['10.0.0.1']);
  t.deepEqual(ignored, []);
  t.is(moreIgnored, 5_000 - 2_048);
});

test('a cluster without registered members has no hosts', (t) => {
  t.deepEqual(memberHosts(discoveryAnswer([])), { hosts: [], ignored: [], moreIgnored: 0 });
  t.deepEqual(memberHosts({ action: 'get', node: { key: '/discovery/t', dir: true, nodes: [] } }), {
    hosts: [],
    ignored: [],
    moreIgnored: 0,
  });
});

for (const [what, body] of [
  ['nothing', undefined],
  ['text', '<html>'],
  ['null', null],
  ['a list', [{ node: {} }]],
  ['a map without a node', { action: 'get' }],
  ['a node that is null', { node: null }],
  ['a node that is text', { node: 'nodes' }],
  ['a node that is a list', { node: [] }],
  ['nodes that are a map', { node: { nodes: {} } }],
  ['nodes that are text', { node: { nodes: 'http://10.0.0.1' } }],
  ['only values that are not text', discoveryAnswer([7, null, {}])],
  ['only one value, without an address', discoveryAnswer(['nonsense'])],
  ['only values without an address', discoveryAnswer(['nonsense', 'node=nonsense'])],
  ['only nodes that are not maps', { node: { nodes: [null, 'http://10.0.0.1', 7] } }],
] as const) {
  test(`a discovery response of ${what} is not usable`, (t) => {
    t.throws(() => memberHosts(body), { code: 'cluster_answer_invalid' });
  });
}

test('any response from discovery is either read or refused', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.array(fc.anything()).map(discoveryAnswer)), (body) => {
      try {
        for (const host of memberHosts(body).hosts)
          t.notThrows(() => new URL(`http://${host.includes(':') ? `[${host}]` : host}`));
      } catch (error) {
        t.like(error, { code: 'cluster_answer_invalid' });
      }
    }),
  );
});

/** The canonical form of a host in the URL parser: lower case, IPv6 in its shortest form. */
function plainHost(host: string): string {
  return host.includes(':') ? new URL(`http://[${host}]`).hostname.slice(1, -1) : host.toLowerCase();
}
