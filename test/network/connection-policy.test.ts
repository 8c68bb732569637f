import { isIPv4 } from 'node:net';
import test from 'ava';
import * as fc from 'fast-check';
import { HostPolicy } from '../../src/network/connection-policy.js';

const never = () => Promise.reject(new Error('nothing is to be looked up'));
const notAborted = { signal: new AbortController().signal };
const lookupOf =
  (...addresses: string[]) =>
  async () =>
    addresses.map((address) => ({ address }));

/** What a policy allows of addresses that are given as addresses. */
const allows = (allowed: readonly string[] | undefined, address: string) =>
  new HostPolicy(allowed, never).allows(address, address);

const SPECIAL = [
  '0.0.0.0',
  '0.1.2.3',
  '127.0.0.1',
  '127.255.255.254',
  '169.254.169.254',
  '224.0.0.1',
  '239.255.255.255',
  '255.255.255.255',
  '::',
  '::1',
  '0:0:0:0:0:0:0:1',
  '0000:0000:0000:0000:0000:0000:0000:0001',
  'fe80::1',
  'febf:ffff::1',
  'ff02::1',
  // IPv4 written as IPv6: mapped, compatible, translated (RFC 2765), behind the well-known prefix (RFC 6052).
  '::ffff:127.0.0.1',
  '::FFFF:127.0.0.1',
  '::ffff:7f00:1',
  '0:0:0:0:0:ffff:127.0.0.1',
  '0000:0000:0000:0000:0000:FFFF:7F00:0001',
  '::ffff:0.0.0.0',
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '::127.0.0.1',
  '::7f00:1',
  '::169.254.169.254',
  '::ffff:0:127.0.0.1',
  '64:ff9b::127.0.0.1',
  '64:ff9b::a9fe:a9fe',
  '64:FF9B:0:0:0:0:169.254.169.254',
  // Of the local NAT64 prefix (RFC 8215) only its network knows where the IPv4 address is.
  '64:ff9b:1::7f00:1',
  '64:ff9b:1::10.0.0.1',
  '64:ff9b:1:7f00:0:100::',
  // Reserved, as are all addresses of ::/8 (RFC 4291).
  '::fffe:7f00:1',
  '::2',
  '::1:0:0:0',
  // 6to4 (RFC 3056).
  '2002:7f00:1::',
  '2002:7FFF:FFFE:1::1',
  '2002:a9fe:a9fe::',
  '2002:6464:64c8::1',
  '2002::1',
  // Teredo (RFC 4380): the server, and the client, whose bits are inverted.
  '2001:0:7f00:1::f5ff:fffe',
  '2001:0:5ef5:79fb:0:1234:80ff:fffe',
  '2001:0:5ef5:79fb:0:1234:5601:5601',
  // Site-local (RFC 3879).
  'fec0::1',
  'feff:ffff::1',
  // Services of clouds for their own machines.
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
  '100.100.100.200',
  '::ffff:100.100.100.200',
  '64:ff9b::100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
];
const ORDINARY = [
  '1.1.1.1',
  '10.0.0.1',
  '192.168.1.1',
  '223.255.255.255',
  '2001:db8::1',
  'fd00::1',
  '::ffff:10.0.0.1',
  '64:ff9b::10.0.0.1',
  '2002:a00:1::1',
  '2001:0:5ef5:79fb:0:1234:f5ff:fffe',
  '2001:1::80ff:fffe',
  '100.100.100.201',
  'fd00:ec1::254',
  'fd20:ce::253',
];

for (const address of SPECIAL) {
  test(`${address} is allowed only where it is listed as its real kind of address`, (t) => {
    for (const allowed of [
      undefined,
      [],
      ['0.0.0.0/0'],
      ['::/0'],
      ['0.0.0.0/0', '::/0', '*'],
      ['0.0.0.0/1', '128.0.0.0/1', '::/1', 'f000::/4'],
    ])
      t.false(allows(allowed, address), String(allowed));
    t.true(allows([address], address));
  });
}

for (const address of ORDINARY) {
  test(`${address} is allowed where nothing is listed, or where it is listed`, (t) => {
    t.true(allows(undefined, address));
    t.true(allows([address], address));
    t.true(allows(['0.0.0.0/0', '::/0'], address));
    t.false(allows([], address), 'an empty list allows nothing');
    t.false(allows(['203.0.113.7', '*.example.com', '*'], address));
  });
}

for (const notAnAddress of [
  '',
  'localhost',
  '127.1',
  '0x7f000001',
  '2130706433',
  '1.2.3',
  '10.0.0.1/8',
  'fe80::1%eth0',
  '::1%lo',
  '[::1]',
  '10.0.0.1 ',
]) {
  test(`'${notAnAddress}' is not an address to connect to`, (t) => {
    for (const allowed of [undefined, ['0.0.0.0/0', '::/0', '127.0.0.0/8', '::1', 'fe80::/10']])
      t.false(allows(allowed, notAnAddress));
  });
}

for (const [range, inside, outside] of [
  ['127.0.0.1', ['127.0.0.1', '::ffff:127.0.0.1'], ['127.0.0.2', '::1']],
  [
    '127.0.0.0/8',
    ['127.0.0.1', '127.9.9.9', '::ffff:127.0.0.1', '::127.0.0.1'],
    ['::1', '10.0.0.1', '0.0.0.0'],
  ],
  ['127.0.0.2/31', ['127.0.0.2', '127.0.0.3'], ['127.0.0.1', '127.0.0.4']],
  ['169.254.0.0/16', ['169.254.169.254'], ['127.0.0.1']],
  ['::1', ['::1', '0:0:0:0:0:0:0:1'], ['127.0.0.1', '::', '::2']],
  ['fe80::/10', ['fe80::1'], ['::1']],
  [
    '10.0.0.0/8',
    ['10.0.0.0', '10.255.255.255', '::ffff:10.1.2.3', '64:ff9b::10.1.2.3'],
    ['11.0.0.0', '9.255.255.255', '::a00:1:2'],
  ],
  ['10.1.2.3/8', ['10.9.9.9'], ['11.0.0.0']],
  ['10.0.0.0/0', ['203.0.113.7'], ['127.0.0.1', '2001:db8::1']],
  ['::ffff:10.0.0.1', ['10.0.0.1', '::ffff:10.0.0.1'], ['10.0.0.2']],
  ['::ffff:10.0.0.0/104', ['10.9.9.9', '::ffff:10.0.0.1'], ['11.0.0.0']],
  ['::ffff:127.0.0.0/104', ['127.0.0.1'], ['10.0.0.1']],
  ['2001:db8::/33', ['2001:db8:7fff::1'], ['2001:db8:8000::', '10.0.0.1']],
  ['2002:7f00::/24', ['2002:7f00:1::'], ['127.0.0.1', '2002:a00:1::']],
  ['2002::/16', ['2002:a00:1::'], ['2002:7f00:1::', '10.0.0.1']],
  ['2001::/32', ['2001:0:5ef5:79fb:0:1234:f5ff:fffe'], ['2001:0:5ef5:79fb:0:1234:80ff:fffe']],
  ['2001:0:7f00::/40', ['2001:0:7f00:1::f5ff:fffe'], ['127.0.0.1']],
  ['127.0.0.0/8', ['127.0.0.1'], ['2002:7f00:1::', '64:ff9b:1::7f00:1', '2001:0:5ef5:79fb:0:1234:80ff:fffe']],
  ['64:ff9b:1::/48', ['64:ff9b:1::7f00:1', '64:ff9b:1::10.0.0.1'], ['127.0.0.1', '10.0.0.1']],
  ['100.64.0.0/10', ['100.100.100.199'], ['100.100.100.200']],
  ['fd00::/8', ['fd00::1'], ['fd00:ec2::254']],
  ['::/0', ['2001:db8::1', 'fd00::1'], ['10.0.0.1', '::ffff:10.0.0.1', '::1']],
] as const) {
  test(`${range} allows ${inside.join(', ')} and not ${outside.join(', ')}`, (t) => {
    for (const address of inside) t.true(allows([range], address), address);
    for (const address of outside) t.false(allows([range], address), address);
  });
}

test('a range of addresses allows exactly the addresses in it; special ones need a range among special ones', (t) => {
  const bits = fc.nat({ max: 0xffffffff });
  const near = (base: number) =>
    fc.oneof(
      bits,
      fc.integer({ min: -3, max: 3 }).map((step) => (base + step) >>> 0),
    );
  const range = fc.record({
    base: fc.oneof(bits, fc.constantFrom(0x7f000001, 0x0a000000, 0xa9fea9fe, 0x646464c8, 0xe0000000, 0)),
    prefix: fc.oneof(fc.integer({ min: 0, max: 32 }), fc.constantFrom(8, 16, 32)),
  });
  const ranges = fc.array(range, { minLength: 1, maxLength: 4 });
  const cases = ranges.chain((list) =>
    fc.tuple(fc.constant(list), fc.oneof(bits, ...list.map(({ base }) => near(base)))),
  );
  const special = [
    { base: 0, prefix: 8 },
    { base: 0x7f000000, prefix: 8 },
    { base: 0xa9fe0000, prefix: 16 },
    { base: 0xe0000000, prefix: 4 },
    { base: 0xffffffff, prefix: 32 },
    { base: 0x646464c8, prefix: 32 },
    { base: 0xa83f8110, prefix: 32 },
    { base: 0xc00000c0, prefix: 32 },
  ];
  fc.assert(
    fc.property(cases, ([list, address]) => {
      const listed = list.filter((each) => within(each, address));
      const expected = special.some((each) => within(each, address))
        ? listed.some(({ base, prefix }) =>
            special.some((each) => prefix >= each.prefix && within(each, base)),
          )
        : listed.length > 0;
      const policy = new HostPolicy(
        list.map(({ base, prefix }) => `${dotted(base)}/${prefix}`),
        never,
      );
      for (const form of formsOf(address)) t.is(policy.allows(form, form), expected, form);
    }),
    { numRuns: 500 },
  );
});

test('an IPv4 address is the same in every form that IPv6 has for it', (t) => {
  fc.assert(
    fc.property(
      fc.ipV4(),
      fc.constantFrom(undefined, ['10.0.0.0/8', '127.0.0.0/8'], ['128.0.0.0/1']),
      (address, allowed) => {
        const plain = allows(allowed, address);
        for (const form of formsOf(numberOf(address))) t.is(allows(allowed, form), plain, form);
      },
    ),
  );
});

test('an IPv6 address is the same however it is written', (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 0xffff }), { minLength: 8, maxLength: 8 }), (groups) => {
      const long = groups.map((group) => group.toString(16).padStart(4, '0')).join(':');
      const short = new URL(`http://[${long}]`).hostname.slice(1, -1);
      const policy = new HostPolicy([long], never);
      for (const form of [long, short, long.toUpperCase()]) t.true(policy.allows(form, form));
      t.is(allows(undefined, long), allows(undefined, short));
    }),
  );
});

for (const [pattern, inside, outside] of [
  [
    'node1.example.com',
    ['node1.example.com', 'NODE1.Example.COM', 'node1.example.com.'],
    ['node2.example.com', 'a.node1.example.com', 'node1.example.com.evil.org', 'node1xexample.com'],
  ],
  [
    '*.example.com',
    ['a.example.com', 'a.b.example.com', 'a_b.example.com', 'a.example.com.'],
    ['example.com', 'evilexample.com', 'a.example.com.evil.org', '.example.com'],
  ],
  [
    'node*.example.com',
    ['node1.example.com', 'node-a.example.com'],
    ['example.com', 'xnode1.example.com', 'node.example.com'],
  ],
  ['*', ['a', 'a.example.com'], ['']],
] as const) {
  test(`the name ${pattern} allows ${inside.join(', ')} and not ${outside.join(', ')}`, (t) => {
    const policy = new HostPolicy([pattern], never);
    for (const host of inside) t.true(policy.allows(host, '10.0.0.1'), host);
    for (const host of outside) t.false(policy.allows(host, '10.0.0.1'), host);
    for (const host of inside) t.false(policy.allows(host, '127.0.0.1'), 'no name opens loopback');
  });
}

test('a name does not allow an address that looks the same', (t) => {
  const policy = new HostPolicy(['*'], never);
  t.false(policy.allows('10.0.0.1', '10.0.0.1'));
  t.false(policy.allows('2001:db8::1', '2001:db8::1'));
});

for (const entry of [
  '',
  ' ',
  '10.0.0.0/33',
  '10.0.0.0/',
  '10.0.0.0/-1',
  '10.0.0.0/8/8',
  '10.0.0',
  '300.0.0.1',
  '::/129',
  'fe80::1%eth0',
  '10.0.0.*',
  '*.0.0.1',
  '10.*',
  '10.*.*.1',
  'http://10.0.0.1',
  '10.0.0.1:80',
  'a.example.com.',
  '*.',
  '.example.com',
  '::ffff:10.0.0.0/8',
  '::ffff:0:0/95',
]) {
  test(`'${entry}' is refused as an entry of ALLOWED_HOSTS`, (t) => {
    t.throws(() => new HostPolicy(['10.0.0.1', entry], never), {
      message: /is not an address, a range/,
    });
  });
}

test('entries may have spaces around them', async (t) => {
  const policy = new HostPolicy([' 10.0.0.1', '*.example.com '], lookupOf('10.0.0.2'));
  t.deepEqual(await policy.resolve('10.0.0.1', notAborted), ['10.0.0.1']);
  t.deepEqual(await policy.resolve('a.example.com', notAborted), ['10.0.0.2']);
});

test('a name resolves to its allowed addresses only', async (t) => {
  const found = lookupOf('10.0.0.1', '127.0.0.1', '192.168.0.1', '::1', '::ffff:127.0.0.1');
  t.deepEqual(await new HostPolicy(undefined, found).resolve('a.test', notAborted), [
    '10.0.0.1',
    '192.168.0.1',
  ]);
  t.deepEqual(await new HostPolicy(['10.0.0.0/8'], found).resolve('a.test', notAborted), ['10.0.0.1']);
  t.deepEqual(await new HostPolicy(['a.test', '::1'], found).resolve('a.test', notAborted), [
    '10.0.0.1',
    '192.168.0.1',
    '::1',
  ]);
});

test('a name whose addresses are all forbidden is forbidden, with the reason', async (t) => {
  const forbidden = (allowed: string[] | undefined, address: string, reason: RegExp) =>
    t.throwsAsync(new HostPolicy(allowed, lookupOf(address)).resolve('a.test', notAborted), {
      code: 'forbidden',
      message: reason,
    });
  await forbidden(undefined, '127.0.0.1', /loopback/);
  await forbidden(undefined, '::ffff:127.0.0.1', /loopback/);
  await forbidden(['*'], '169.254.169.254', /loopback, link-local/);
  await forbidden(['10.0.0.0/8'], '11.0.0.1', /not listed in ALLOWED_HOSTS/);
  const error = await forbidden(['b.test'], '10.0.0.1', /a\.test is not allowed/);
  t.like(error, { details: { host: 'a.test' } });
});

test('an address is not looked up', async (t) => {
  t.deepEqual(await new HostPolicy(undefined, never).resolve('10.0.0.1', notAborted), ['10.0.0.1']);
  await t.throwsAsync(new HostPolicy(undefined, never).resolve('::1', notAborted), { code: 'forbidden' });
});

test('an unknown name fails with the error of the resolver', async (t) => {
  const reason = Object.assign(new Error('no such host'), { code: 'ENOTFOUND' });
  const policy = new HostPolicy(undefined, () => Promise.reject(reason));
  t.is(await t.throwsAsync(policy.resolve('a.test', notAborted)), reason);
});

test('a name is looked up by the system by default', async (t) => {
  // RFC 6761, 6.3: it is always this machine.
  await t.throwsAsync(new HostPolicy(undefined).resolve('localhost', notAborted), { code: 'forbidden' });
  const found = await new HostPolicy(['127.0.0.0/8', '::1']).resolve('localhost', notAborted);
  t.true(found.length > 0 && found.every((address) => address === '::1' || isIPv4(address)));
});

/** Whether the first bits of two addresses are equal, as many as the prefix says. */
function within({ base, prefix }: { base: number; prefix: number }, address: number): boolean {
  return Math.floor(base / 2 ** (32 - prefix)) === Math.floor(address / 2 ** (32 - prefix));
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** An IPv4 address, and the ways to write it as IPv6 (RFC 4291, 2.5.5). */
function formsOf(address: number): string[] {
  const plain = dotted(address);
  const groups = `${(address >>> 16).toString(16)}:${(address & 0xffff).toString(16)}`;
  return [
    plain,
    `::ffff:${plain}`,
    `::FFFF:${plain}`,
    `0:0:0:0:0:ffff:${plain}`,
    `::ffff:${groups}`,
    `0000:0000:0000:0000:0000:ffff:${groups}`,
  ];
}
