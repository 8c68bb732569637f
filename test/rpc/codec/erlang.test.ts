import { deflateSync } from 'node:zlib';
import test from 'ava';
import { DecodeError } from '../../../src/rpc/codec/codec.js';
import { ErlangCodec } from '../../../src/rpc/codec/erlang.js';
import { atom, atomKeys } from '../../../src/rpc/codec/erlang-atom.js';
import { encodeEnvelope, encodeTerm } from '../../../src/rpc/codec/erlang-encode.js';
import { erlangLimits } from '../../../src/rpc/codec/erlang-limits.js';

const codec = new ErlangCodec();

/** A body: the version byte, then bytes given as hex, text (latin1, behind a quote) or buffers. */
function body(...parts: (string | Buffer)[]): Buffer {
  return Buffer.concat([Buffer.from([131]), ...parts.map(bytes)]);
}

function bytes(part: string | Buffer): Buffer {
  if (typeof part !== 'string') return part;
  return part.startsWith("'")
    ? Buffer.from(part.slice(1), 'latin1')
    : Buffer.from(part.replaceAll(' ', ''), 'hex');
}

function compressed(term: Buffer, declared = term.length): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(declared);
  return body('50', size, deflateSync(term));
}

function nested(open: string, inner: string, close: string, depth: number): Buffer {
  return body(open.repeat(depth), inner, close.repeat(depth));
}

const READ: [string, Buffer, unknown][] = [
  ['SMALL_INTEGER_EXT', body('61 ff'), 255],
  ['INTEGER_EXT', body('62 ffffffff'), -1],
  ['INTEGER_EXT, smallest', body('62 80000000'), -2147483648],
  ['SMALL_BIG_EXT of six bytes', body('6e 06 00 01 00 00 00 00 01'), 2 ** 40 + 1],
  ['SMALL_BIG_EXT within 2^53', body('6e 06 01 00 00 00 00 00 01'), -(2 ** 40)],
  ['SMALL_BIG_EXT 2^53 - 1', body('6e 07 00 ff ff ff ff ff ff 1f'), Number.MAX_SAFE_INTEGER],
  ['SMALL_BIG_EXT 2^53', body('6e 07 00 00 00 00 00 00 00 20'), 2n ** 53n],
  ['SMALL_BIG_EXT -(2^53 + 1)', body('6e 07 01 01 00 00 00 00 00 20'), -(2n ** 53n) - 1n],
  ['SMALL_BIG_EXT without bytes', body('6e 00 01'), 0],
  ['SMALL_BIG_EXT -0', body('6e 01 01 00'), 0],
  ['SMALL_BIG_EXT with leading zeros', body('6e 0a 01 05', '00'.repeat(9)), -5],
  ['SMALL_BIG_EXT of 64 bytes', body('6e 40 00', 'ff'.repeat(64)), 2n ** 512n - 1n],
  ['LARGE_BIG_EXT', body('6f 00000008 00', '00'.repeat(7), '01'), 2n ** 56n],
  ['NEW_FLOAT_EXT', body('46 3ff8000000000000'), 1.5],
  ['NEW_FLOAT_EXT -0.0', body('46 8000000000000000'), -0],
  ['FLOAT_EXT', body('63', "'-1.50000000000000000000e-03", '00000000'), -0.0015],
  ['ATOM_EXT', body('64 0004', "'caf\xe9"), 'café'],
  ['SMALL_ATOM_EXT', body('73 04', "'caf\xe9"), 'café'],
  ['ATOM_UTF8_EXT', body('76 0005', "'caf\xc3\xa9"), 'café'],
  ['SMALL_ATOM_UTF8_EXT', body('77 05', "'caf\xc3\xa9"), 'café'],
  ['ATOM_EXT of 255 characters', body('64 00ff', "'".padEnd(256, '\xe9')), 'é'.repeat(255)],
  ['ATOM_UTF8_EXT of 255 characters', body('76 03fc', Buffer.from('😀'.repeat(255))), '😀'.repeat(255)],
  ['the atom nil', body('77 03', "'nil"), null],
  ['the atom true', body('64 0004', "'true"), true],
  ['the atom false', body('73 05', "'false"), false],
  ['the atom undefined', body('77 09', "'undefined"), 'undefined'],
  ['BINARY_EXT', body('6d 0000000b', Buffer.from('é – 😀')), 'é – 😀'],
  ['BINARY_EXT that is nil as text', body('6d 00000003', "'nil"), 'nil'],
  ['BINARY_EXT with U+FFFD of its own', body('6d 00000003 efbfbd'), '\uFFFD'],
  ['BINARY_EXT with a byte order mark', body('6d 00000003 efbbbf'), '\uFEFF'],
  ['NIL_EXT', body('6a'), []],
  ['STRING_EXT', body('6b 0003', "'abc"), [97, 98, 99]],
  ['LIST_EXT', body('6c 00000002 61 01 6a 6a'), [1, []]],
  ['LIST_EXT of no items', body('6c 00000000 6a'), []],
  ['SMALL_TUPLE_EXT', body('68 02 61 01 61 02'), [1, 2]],
  ['LARGE_TUPLE_EXT', body('69 00000001 61 01'), [1]],
  ['MAP_EXT', body('74 00000002 77 01', "'a", '61 01 6d 00000001', "'b", '6a'), { a: 1, b: [] }],
  ['MAP_EXT with the key nil', body('74 00000001 77 03', "'nil", '77 03', "'nil"), { nil: null }],
  ['a compressed term', compressed(bytes('6b 0003 010203')), [1, 2, 3]],
  ['a compressed term of one byte', compressed(bytes('6a')), []],
];

for (const [what, given, expected] of READ) {
  test(`reads ${what}`, (t) => t.deepEqual(codec.decode(given), expected));
}

test('reads each of them also where other terms follow', (t) => {
  for (const [what, given, expected] of READ) {
    const isCompressed = given[1] === 0x50;
    const within = body('68 02', isCompressed ? bytes('6a') : given.subarray(1), '6d 00000001', "'z");
    t.deepEqual(codec.decode(within), [isCompressed ? [] : expected, 'z'], what);
  }
});

test('a key of a map is a property like any other, whatever its name', (t) => {
  const map = codec.decode(body('74 00000002 77 09', "'__proto__", '61 01 77 01', "'a", '61 01'));
  const [proto, other] = ['__proto__', 'a'].map((key) => Object.getOwnPropertyDescriptor(map, key));
  t.deepEqual(proto, other);
  t.is(proto?.value, 1);
});

const DAMAGED = compressed(bytes('6b 0003 010203'));
DAMAGED.writeUInt8(DAMAGED.readUInt8(DAMAGED.length - 1) ^ 1, DAMAGED.length - 1);

const REFUSED: [string, Buffer, RegExp][] = [
  ['an empty body', Buffer.alloc(0), /cut short/],
  ['another version', Buffer.from([130, 97, 1]), /first byte is not 131/],
  ['a version without a term', body(), /cut short/],
  ['an unknown tag', body('00'), /unknown tag \(0\)/],
  ['an improper list', body('6c 00000001 61 01 61 02'), /improper/],
  ['a binary that is not UTF-8', body('6d 00000001 ff'), /not UTF-8/],
  ['a binary that holds half a surrogate pair', body('6d 00000003 eda080'), /not UTF-8/],
  ['an atom that is not UTF-8', body('77 02', "'\xe9t"), /not UTF-8/],
  ['a process id', body('67 77 01 61 00000000 00000000 00'), /process id/],
  ['a new process id', body('58 77 01 61 00000000 00000000 00000000'), /process id/],
  ['a port', body('66 77 01 61 00000000 00'), /a port/],
  ['a v4 port', body('78 77 01 61 0000000000000000 00000000'), /a port/],
  ['a reference', body('5a 0001 77 01 61 00000000 00000000'), /reference/],
  ['an old reference', body('72 0001 77 01 61 00 00000000'), /reference/],
  ['a fun', body('70 0000000000'), /function/],
  ['an export', body('71 77 01 61 77 01 61 61 01'), /function/],
  ['a bit string', body('4d 00000001 07 fe'), /bit string/],
  ['an atom cache reference', body('52 00'), /atom cache/],
  ['a float that is not finite', body('46 7ff0000000000000'), /not finite/],
  ['a float that is not a number', body('46 7ff8000000000000'), /not finite/],
  ['a float in text beyond all floats', body('63', "'1.00000000000000000000e+999", '00000000'), /not finite/],
  ['a float in text that is none', body('63', "'0x1p3", '00'.repeat(26)), /malformed/],
  ['a float after other text', body('63', "'x1.5", '00'.repeat(27)), /malformed/],
  ['a float before other text', body('63', "'1.5x", '00'.repeat(27)), /malformed/],
  ['an integer key', body('74 00000001 61 01 61 02'), /key of a map/],
  ['a list as a key', body('74 00000001 6a 61 02'), /key of a map/],
  ['keys that collide', body('74 00000002 77 01 61 61 01 6d 00000001 61 61 02'), /two keys/],
  [
    'colliding __proto__ keys',
    body('74 00000002 77 09', "'__proto__", '6a 6d 00000009', "'__proto__", '6a'),
    /two keys/,
  ],
  ['an atom of 256 characters', body('64 0100', "'".padEnd(257, 'a')), /255 characters/],
  ['an atom of 256 characters in UTF-8', body('76 0100', "'".padEnd(257, 'a')), /255 characters/],
  ['bytes after the term', body('61 01 00'), /bytes follow/],
  ['a term cut short', body('62 0000'), /cut short/],
  ['an endless list of endless binaries', bytes('836c7fffffff6dfffffffb'), /cut short/],
  ['a huge tuple', body('69 ffffffff'), /cut short/],
  ['a huge map', body('74 ffffffff'), /cut short/],
  ['a huge integer', body('6f ffffffff 00'), /integer has more than 64 bytes/],
  [
    'a compressed term within a compressed term',
    compressed(compressed(bytes('6a')).subarray(1)),
    /compressed/,
  ],
  ['a compressed term that is empty', compressed(Buffer.alloc(0)), /empty/],
  ['a compressed term smaller than it says', compressed(bytes('6a'), 2), /smaller/],
  ['a compressed term larger than it says', compressed(bytes('61 01'), 1), /larger/],
  ['a compressed term larger than the limit', compressed(bytes('61 01'), 16 * 1024 * 1024 + 1), /larger/],
  ['a compressed term with a wrong checksum', DAMAGED, /damaged/],
  ['a compressed term cut short', compressed(bytes('6b 0003 010203')).subarray(0, -3), /damaged/],
  ['a compressed term without data', body('50 000000'), /cut short/],
  ['bytes after a compressed term', Buffer.concat([compressed(bytes('6a')), bytes('00')]), /bytes follow/],
  ['bytes after the term within a compressed one', compressed(bytes('6a 6a')), /bytes follow/],
];

for (const [what, given, reason] of REFUSED) {
  test(`refuses ${what}`, (t) => {
    t.throws(() => codec.decode(given), { instanceOf: DecodeError, message: reason });
  });
}

test('recognises a body by its first byte', (t) => {
  t.true(codec.recognises(body('6a')));
  t.false(codec.recognises(Buffer.from('{}')));
  t.false(codec.recognises(Buffer.alloc(0)));
  t.is(codec.name, 'erlang');
  t.is(codec.contentType, 'application/x-erlang-binary');
});

test('reads any view of bytes, not only a Buffer', (t) => {
  const whole = new Uint8Array([9, 9, 131, 97, 7, 9]);
  t.is(codec.decode(whole.subarray(2, 5)), 7);
});

test('a map becomes the object that JSON.parse would give, and __proto__ is an ordinary key', (t) => {
  const map = codec.decode(body('74 00000001 77 09', "'__proto__", '74 00000001 77 01', "'x", '61 01'));
  t.deepEqual(map, JSON.parse('{"__proto__":{"x":1}}'));
  t.is(Object.getPrototypeOf(map), Object.prototype);
  t.deepEqual(Object.keys(Object(map)), ['__proto__']);
});

test('many keys of one length stay distinct, also when read repeatedly', (t) => {
  const map = Object.fromEntries(
    Array.from({ length: 2000 }, (_, i) => [`key${String(i).padStart(4, '0')}`, i]),
  );
  const written = encodeTerm(map);
  t.deepEqual(codec.decode(written), map);
  t.deepEqual(codec.decode(written), map);
});

test('containers nest up to the depth limit and no deeper', (t) => {
  const shapes: [string, string, string][] = [
    ['6c 00000001', '61 01', '6a'],
    ['68 01', '61 01', ''],
    ['69 00000001', '61 01', ''],
    ['74 00000001 6d 00000000', '61 01', ''],
  ];
  for (const [open, inner, close] of shapes) {
    t.notThrows(() => codec.decode(nested(open, inner, close, 100)));
    t.throws(() => codec.decode(nested(open, inner, close, 101)), {
      instanceOf: DecodeError,
      message: /100 deep/,
    });
    t.throws(() => codec.decode(nested(open, inner, close, 50_000)), {
      instanceOf: DecodeError,
      message: /deep/,
    });
  }
  const deep = new ErlangCodec({ depth: 1000 });
  t.notThrows(() => deep.decode(nested('68 01', '6a', '', 999)));
  t.throws(() => new ErlangCodec({ depth: 1001 }), { instanceOf: RangeError });
});

test('a limit is a whole number of at least 1', (t) => {
  t.deepEqual(new ErlangCodec({ elements: 1 }).decode(body('6a')), []);
  for (const elements of [0, -1, 1.5, Number.NaN, Infinity])
    t.throws(() => new ErlangCodec({ elements }), {
      instanceOf: RangeError,
      message: 'the limit elements must be a whole number of at least 1',
    });
});

test('the number of elements is limited, including those of strings of integers and keys', (t) => {
  const small = new ErlangCodec({ elements: 4 });
  t.deepEqual(small.decode(body('68 03 6a 6a 6a')), [[], [], []]);
  t.throws(() => small.decode(body('68 04 6a 6a 6a 6a')), { message: /more than 4 elements/ });
  t.deepEqual(small.decode(body('6b 0003 000000')), [0, 0, 0]);
  t.throws(() => small.decode(body('6b 0004 00000000')), { message: /more than 4 elements/ });
  t.deepEqual(new ErlangCodec({ elements: 5 }).decode(body('74 00000002 6d00000000 6a 770161 6a')), {
    '': [],
    a: [],
  });
  t.throws(() => small.decode(body('74 00000002 6d00000000 6a 770161 6a')), {
    message: /more than 4 elements/,
  });
  const million = Buffer.alloc(2_000_000, 106);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(million.length);
  t.throws(() => codec.decode(body('69', length, million)), { message: /more than 100000 elements/ });
});

test('the plain size of a body is what it declares, and nothing is inflated for it', (t) => {
  t.is(codec.plainSize(body('61 01')), 3);
  t.is(codec.plainSize(compressed(bytes('61 01'))), 2);
  t.is(codec.plainSize(compressed(bytes('61 01'), 2 ** 32 - 1)), 2 ** 32 - 1);
  for (const cut of ['', '83', '8350', '8350000000']) t.is(codec.plainSize(bytes(cut)), cut.length / 2, cut);
  const within = Buffer.concat([bytes('ffff'), compressed(bytes('61 01'))]).subarray(2);
  t.is(codec.plainSize(within), 2);
});

test('a compressed term may inflate up to the limit', (t) => {
  const small = new ErlangCodec({ inflatedBytes: 6 });
  t.deepEqual(small.decode(compressed(bytes('6b 0003 000000'))), [0, 0, 0]);
  t.throws(() => small.decode(compressed(bytes('6b 0004 00000000'))), { message: /larger than 6 bytes/ });
});

function hex(value: unknown): string {
  return encodeTerm(value).toString('hex');
}

test('writes each value in its smallest form', (t) => {
  t.is(hex(0), '836100');
  t.is(hex(-0), '836100', 'as JSON writes it');
  t.is(hex(255), '8361ff');
  t.is(hex(256), '836200000100');
  t.is(hex(-1), '8362ffffffff');
  t.is(hex(-(2 ** 31)), '836280000000');
  t.is(hex(2 ** 31), '836e040000000080');
  t.is(hex(-(2 ** 31) - 1), '836e040101000080');
  t.is(hex(7n), '836107');
  t.is(hex(-(2n ** 64n)), '836e0901000000000000000001');
  t.is(hex(2n ** 512n - 1n), `836e4000${'ff'.repeat(64)}`);
  const wide = erlangLimits({ integerBytes: 256 });
  t.is(encodeTerm(2n ** 2040n, wide).toString('hex'), `836f0000010000${'00'.repeat(255)}01`);
  t.is(hex(1.5), '83463ff8000000000000');
  t.is(hex(2 ** 53), '83464340000000000000', 'a number beyond 2^53 is no exact integer');
  t.is(hex(null), '8377036e696c');
  t.is(hex(true), '83770474727565');
  t.is(hex(false), '83770566616c7365');
  t.is(hex('é'), '836d00000002c3a9');
  t.is(hex(''), '836d00000000');
  t.is(hex([]), '836a');
  t.is(hex([1, 2]), '836c00000002610161026a', 'a list, not a string of integers');
  t.is(hex({ a: 1 }), '8374000000016d00000001616101');
  t.is(hex(atom('é'.repeat(128))), `83760100${'c3a9'.repeat(128)}`);
});

test('follows JSON for undefined and toJSON', (t) => {
  const value = { gone: undefined, when: new Date(0), items: [undefined, 1] };
  t.deepEqual(codec.decode(encodeTerm(value)), JSON.parse(JSON.stringify(value)));
});

test('refuses to write values that have no form as a term', (t) => {
  for (const value of [Number.NaN, Infinity, () => 1, Symbol('s'), { a: [-Infinity] }, { '\ud800': 1 }])
    t.throws(() => encodeTerm(value), { instanceOf: TypeError });
  for (const sign of [1n, -1n]) {
    t.throws(() => encodeTerm(sign * 2n ** 512n), { instanceOf: RangeError, message: /more than 64 bytes/ });
    t.notThrows(() => encodeTerm(sign * (2n ** 512n - 1n)));
  }
  t.throws(() => encodeTerm('x'.repeat(2000), erlangLimits({ encodedBytes: 2000 })), {
    instanceOf: RangeError,
  });
});

test('a term may take as many bytes as the limit allows, and no more', (t) => {
  const text = 'x'.repeat(2000);
  const big = { integerBytes: 300 };
  for (const value of [
    text,
    [text],
    [[text]],
    [text, 1.5],
    { [text]: 1.5 },
    { [text]: -(2n ** 80n) },
    { [text]: 2n ** 2039n },
    { [text]: 2n ** 2040n },
  ]) {
    const { length } = encodeTerm(value, erlangLimits(big));
    t.is(encodeTerm(value, erlangLimits({ ...big, encodedBytes: length })).length, length);
    t.throws(() => encodeTerm(value, erlangLimits({ ...big, encodedBytes: length - 1 })), {
      instanceOf: RangeError,
      message: `the term is larger than ${length - 1} bytes`,
    });
  }
});

test('half a surrogate pair becomes U+FFFD, in short and in long text', (t) => {
  t.is(codec.decode(encodeTerm('a\ud800')), 'a\uFFFD');
  t.is(codec.decode(encodeTerm(`\udc00${'é'.repeat(5000)}\ud800`)), `\uFFFD${'é'.repeat(5000)}\uFFFD`);
});

test('a value that contains itself or nests too deep is an error, not a stack overflow', (t) => {
  const loop: Record<string, unknown> = {};
  loop['self'] = [loop, loop];
  t.throws(() => encodeTerm(loop), { instanceOf: RangeError, message: /deep/ });
  const endless = { toJSON: () => endless };
  t.throws(() => encodeTerm(endless), { instanceOf: RangeError, message: /deep/ });
  const nest: ((inner: unknown) => unknown)[] = [
    (inner) => [inner],
    (inner) => ({ key: inner }),
    (inner) => atomKeys({ key: inner }),
    (inner) => ({ toJSON: () => inner }),
  ];
  for (const around of nest) {
    let deep: unknown = [];
    for (let i = 0; i < 99; i++) deep = around(deep);
    t.notThrows(() => encodeTerm(deep));
    t.throws(() => encodeTerm(around(deep)), { instanceOf: RangeError, message: /deep/ });
  }
});

test('what is no envelope is encoded like any term', (t) => {
  let deep: unknown = [];
  for (let i = 0; i < 99; i++) deep = [deep];
  for (const value of [null, 7, 'text', [1], deep]) t.deepEqual(encodeEnvelope(value), encodeTerm(value));
});

test('a long reply outgrows the first buffer and stays whole', (t) => {
  const units = Array.from({ length: 5000 }, (_, i) => ({
    name: `wéb@${i}.service`,
    hash: 'a'.repeat(40),
    state: null,
  }));
  t.deepEqual(codec.decode(encodeTerm(units)), units);
});

test('atoms and atom keys are written on request, at any depth, and are text in JSON', (t) => {
  const value = { a: [atomKeys({ b: atom('c'), d: { e: 'f' } })] };
  t.is(
    encodeTerm(value).toString('latin1'),
    body(
      '74 00000001 6d 00000001',
      "'a",
      '6c 00000001',
      '74 00000002 77 01',
      "'b",
      '77 01',
      "'c",
      '77 01',
      "'d",
      '74 00000001 6d 00000001',
      "'e",
      '6d 00000001',
      "'f",
      '6a',
    ).toString('latin1'),
  );
  t.is(JSON.stringify(value), '{"a":[{"b":"c","d":{"e":"f"}}]}');
});

test('an atom has at most 255 characters of well-formed Unicode', (t) => {
  t.is(codec.decode(encodeTerm(atom('😀'.repeat(255)))), '😀'.repeat(255));
  t.throws(() => atom('a'.repeat(256)), { instanceOf: RangeError });
  t.throws(() => atom('\ud800'), { instanceOf: TypeError });
  t.throws(() => atomKeys({ ['a'.repeat(256)]: 1 }), { instanceOf: RangeError });
});

test('an envelope has atoms for its own keys and its status, and binaries for everything else', (t) => {
  const written = codec.encode({
    id: 1,
    status: 'error',
    response_body: { status: 'failed' },
    other: undefined,
    x: '',
  });
  t.is(
    written.toString('latin1'),
    body(
      '74 00000004 77 02',
      "'id",
      '61 01 77 06',
      "'status",
      '77 05',
      "'error",
      '77 0d',
      "'response_body",
      '74 00000001 6d 00000006',
      "'status",
      '6d 00000006',
      "'failed",
      '6d 00000001',
      "'x",
      '6d 00000000',
    ).toString('latin1'),
  );
});

test('a value that is not a plain envelope is written unchanged', (t) => {
  t.deepEqual(codec.encode(atomKeys({ type: atom('x') })), encodeTerm(atomKeys({ type: atom('x') })));
  t.deepEqual(codec.encode([{ status: 'a' }]), encodeTerm([{ status: 'a' }]));
});
