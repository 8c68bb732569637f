import test, { type ExecutionContext } from 'ava';
import * as fc from 'fast-check';
import { DecodeError } from '../../../src/rpc/codec/codec.js';
import { ErlangCodec } from '../../../src/rpc/codec/erlang.js';
import { atom, atomKeys } from '../../../src/rpc/codec/erlang-atom.js';
import { encodeTerm } from '../../../src/rpc/codec/erlang-encode.js';
import { ErlangPeer, hasErlang } from './erlang-peer.js';

const codec = new ErlangCodec();

const integers = fc.oneof(fc.maxSafeInteger(), fc.integer(), fc.integer({ min: -300, max: 300 }));
const bigints = fc
  .oneof(
    fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }),
    fc.bigInt({ min: 1n - 2n ** 512n, max: 2n ** 512n - 1n }),
  )
  .filter((value) => value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER);
// + 0, since -0 is written as 0.
const floats = fc.double({ noDefaultInfinity: true, noNaN: true }).map((value) => value + 0);
const texts = fc.string({ unit: 'binary', maxLength: 60 });
const keys = fc.oneof(texts, fc.constantFrom('__proto__', 'constructor', 'toString', 'nil', '7'));
const { value: values } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    texts,
    integers,
    bigints,
    floats,
    fc.boolean(),
    fc.constant(null),
    tie('list'),
    tie('map'),
  ),
  list: fc.array(tie('value'), { maxLength: 8 }),
  map: fc.dictionary(keys, tie('value'), { maxKeys: 8 }),
}));

test('written values are read back exactly', (t) => {
  fc.assert(
    fc.property(values, (value) => {
      t.deepEqual(codec.decode(encodeTerm(value)), value);
    }),
    { numRuns: 2000 },
  );
});

test('a truncated term is refused, wherever it ends', (t) => {
  fc.assert(
    fc.property(values, fc.nat(), (value, cut) => {
      const whole = encodeTerm(value);
      t.throws(() => codec.decode(whole.subarray(0, cut % whole.length)), { instanceOf: DecodeError });
    }),
    { numRuns: 500 },
  );
});

/** The Erlang source of the term that `encodeTerm` must write for a value. */
function source(value: unknown): string {
  if (value === null) return 'nil';
  if (typeof value === 'string') return `<<${Array.from(Buffer.from(value)).join(',')}>>`;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : value.toExponential(20);
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return `[${value.map(source).join(',')}]`;
  const pairs = Object.entries(Object(value)).map(([key, each]) => `${source(key)} => ${source(each)}`);
  return `#{${pairs.join(',')}}`;
}

const WAYS_TO_WRITE = [
  '[]',
  '[compressed]',
  '[{compressed, 1}]',
  '[{compressed, 9}, {minor_version, 1}]',
  '[{minor_version, 0}]',
  '[{minor_version, 1}]',
  '[{minor_version, 2}]',
  '[deterministic]',
  '[deterministic, compressed, {minor_version, 2}]',
];

const NIL_KEYS = { queue_name: '', response_body: null };
const NIL_KEYS_SOURCE = 'queue_name => <<>>, response_body => nil';

/** Requests as Elixir callers send them, as Erlang source, and the values that must be read from them. */
const REQUESTS: [string, string, unknown][] = [
  [
    'list_machines, with every key',
    `#{${NIL_KEYS_SOURCE}, id => nil, status => not_started,
       request_body => #{etcd_token => <<"3a1b2c3d">>, action => list_machines, action_parameters => nil}}`,
    {
      ...NIL_KEYS,
      id: null,
      status: 'not_started',
      request_body: { etcd_token: '3a1b2c3d', action: 'list_machines', action_parameters: null },
    },
  ],
  [
    'list_units, without the keys that are nil',
    '#{id => 7, status => in_progress, request_body => #{etcd_token => <<"3a1b2c3d">>, action => list_units}}',
    { id: 7, status: 'in_progress', request_body: { etcd_token: '3a1b2c3d', action: 'list_units' } },
  ],
  [
    'list_unit_states, with binaries where atoms are usual',
    `#{<<"id">> => 4294967296, <<"status">> => <<"not_started">>,
       <<"request_body">> => #{<<"action">> => <<"list_unit_states">>, etcd_token => <<"3a1b2c3d">>}}`,
    {
      id: 4294967296,
      status: 'not_started',
      request_body: { action: 'list_unit_states', etcd_token: '3a1b2c3d' },
    },
  ],
  [
    'unit_logs, with an id beyond 2^53',
    `#{id => 9007199254740993, status => not_started, request_body =>
       #{etcd_token => <<"3a1b2c3d">>, action => unit_logs,
         action_parameters => #{unit_name => <<"w\u00e9b@1.service"/utf8>>}}}`,
    {
      id: 9007199254740993n,
      status: 'not_started',
      request_body: {
        etcd_token: '3a1b2c3d',
        action: 'unit_logs',
        action_parameters: { unit_name: 'w\u00e9b@1.service' },
      },
    },
  ],
  [
    'node_info, with many nodes and charlists',
    `#{id => 300, status => not_started, request_body => #{action => node_info, action_parameters =>
       #{nodes => lists:duplicate(50, <<"10.0.0.1">>) ++ ["::1"], limits => {1, -2, 0.5, -1.0e-300}}}}`,
    {
      id: 300,
      status: 'not_started',
      request_body: {
        action: 'node_info',
        action_parameters: {
          nodes: [...Array.from({ length: 50 }, () => '10.0.0.1'), [58, 58, 49]],
          limits: [1, -2, 0.5, -1e-300],
        },
      },
    },
  ],
  [
    'restart_unit, with atoms beyond ASCII and Latin-1, long ones and true, false and nil as keys',
    `#{id => 0, status => not_started, 'z\u00fcrich' => '\u017b\u00f3\u0142w', nil => true, true => false, false => undefined,
       long => list_to_atom(lists:duplicate(255, 16#1F600)),
       request_body => #{action => restart_unit, action_parameters => #{unit_name => <<"web.service">>}}}`,
    {
      id: 0,
      status: 'not_started',
      'z\u00fcrich': '\u017b\u00f3\u0142w',
      nil: true,
      true: false,
      false: 'undefined',
      long: '\u{1F600}'.repeat(255),
      request_body: { action: 'restart_unit', action_parameters: { unit_name: 'web.service' } },
    },
  ],
];

/** Our messages, and the terms that Erlang must read from them. */
const MESSAGES: [string, Buffer, string][] = [
  [
    'an answer',
    codec.encode({
      queue_name: '',
      id: 7,
      status: 'completed',
      request_body: { etcd_token: 'abc', action: 'list_machines', action_parameters: null },
      response_body: [{ id: 'b5', primaryIP: null, metadata: { region: 'z\u00fcrich', status: 'on' } }],
    }),
    `#{queue_name => <<>>, id => 7, status => completed,
       request_body => #{<<"etcd_token">> => <<"abc">>, <<"action">> => <<"list_machines">>,
                         <<"action_parameters">> => nil},
       response_body => [#{<<"id">> => <<"b5">>, <<"primaryIP">> => nil,
                           <<"metadata">> => #{<<"region">> => <<"z\u00fcrich"/utf8>>, <<"status">> => <<"on">>}}]}`,
  ],
  [
    'a reply of numbers',
    codec.encode({
      status: 'completed',
      id: null,
      response_body: {
        percent: [
          0,
          73,
          255,
          256,
          -1,
          2 ** 31,
          -(2 ** 31),
          2 ** 53 - 1,
          2n ** 64n,
          -(2n ** 511n),
          0.1,
          -2.5e-9,
        ],
        ok: [true, false],
        none: [],
      },
    }),
    `#{status => completed, id => nil, response_body =>
       #{<<"percent">> => [0, 73, 255, 256, -1, 2147483648, -2147483648, 9007199254740991, 18446744073709551616,
                           -(1 bsl 511), 0.1, -2.5e-9],
         <<"ok">> => [true, false], <<"none">> => []}}`,
  ],
  [
    'an error',
    codec.encode({ id: 7, status: 'error', response_body: { errors: ['no'], code: 'unit_not_found' } }),
    '#{id => 7, status => error, response_body => #{<<"errors">> => [<<"no">>], <<"code">> => <<"unit_not_found">>}}',
  ],
  [
    'a heartbeat',
    encodeTerm(
      atomKeys({
        event_type: atom('status'),
        status: atom('active'),
        hostname: 'worker-1',
        type: atom('fleet_manager'),
        workload: [atomKeys({ description: 'unit_logs of 3a1b2c', since: 1_700_000_000 })],
      }),
    ),
    `#{event_type => status, status => active, hostname => <<"worker-1">>, type => fleet_manager,
       workload => [#{description => <<"unit_logs of 3a1b2c">>, since => 1700000000}]}`,
  ],
  [
    'a request',
    codec.encode({
      status: 'not_started',
      request_body: atomKeys({
        action: atom('unit_logs'),
        action_parameters: atomKeys({ unit_name: 'a.service' }),
      }),
    }),
    `#{status => not_started,
       request_body => #{action => unit_logs, action_parameters => #{unit_name => <<"a.service">>}}}`,
  ],
];

/** Registers a test that needs Erlang; without Erlang it is skipped with a notice. */
function withErlang(name: string, run: (t: ExecutionContext, erlang: ErlangPeer) => Promise<void>): void {
  if (peer !== undefined) {
    test(name, (t) => run(t, peer));
    return;
  }
  const notice = `left out, escript is not installed: ${name}`;
  process.stderr.write(`${notice}\n`);
  test(notice, (t) => {
    t.log('install Erlang (Debian: erlang-base) to run it');
    t.pass();
  });
}

const peer = hasErlang() || process.env['REQUIRE_SERVICES'] === '1' ? new ErlangPeer() : undefined;
test.after.always(() => peer?.end());

for (const [what, term, expected] of REQUESTS) {
  withErlang(`reads every form in which Erlang writes: ${what}`, async (t, erlang) => {
    for (const way of WAYS_TO_WRITE) {
      const body = await erlang.evaluate(`term_to_binary(${term}, ${way})`);
      t.true(codec.recognises(body));
      t.deepEqual(codec.decode(body), expected, way);
    }
  });
}

for (const [what, body, term] of MESSAGES) {
  withErlang(`Erlang reads our ${what} as the intended term`, async (t, erlang) => {
    t.is(await erlang.compare(body, term), 'same');
  });
}

withErlang(
  'the forms that Erlang writes differ: compressed, floats as text, atoms in Latin-1 and UTF-8',
  async (t, erlang) => {
    const write = (way: string) =>
      erlang.evaluate(`term_to_binary({lists:duplicate(99, <<"x">>), 0.5, '\u00e9'}, ${way})`);
    t.is((await write('[compressed]'))[1], 80);
    t.true((await write('[{minor_version, 0}]')).includes(Buffer.from('c5.0000', 'latin1')));
    t.true((await write('[{minor_version, 1}]')).includes(Buffer.from('d\0\x01\xe9', 'latin1')));
    t.true((await write('[{minor_version, 2}]')).includes(Buffer.from('w\x02\xc3\xa9', 'latin1')));
  },
);

withErlang(
  'reads integers of up to 64 bytes as Erlang shows them, and none is rounded',
  async (t, erlang) => {
    const body = await erlang.evaluate(
      `term_to_binary([{integer_to_binary(I), I} ||
       Bits <- lists:seq(0, 256) ++ [505, 510, 511], Near <- [-2, -1, 0, 1, 2], Sign <- [-1, 1],
       I <- [Sign * ((1 bsl Bits) + Near)]])`,
    );
    const pairs = pairsOf(codec.decode(body));
    t.true(pairs.length > 2000);
    for (const [text, value] of pairs) {
      const exact = BigInt(text);
      const expected: unknown = Number.isSafeInteger(Number(exact)) ? Number(exact) : exact;
      t.is(value, expected);
    }
  },
);

withErlang('reads floats of any size exactly, in both their forms', async (t, erlang) => {
  for (const version of [0, 1]) {
    const body = await erlang.evaluate(
      `term_to_binary([{float_to_binary(F, [{scientific, 20}]), F} ||
         _ <- lists:seq(1, 500), <<F/float>> <- [rand:bytes(8)]] ++
         [{<<"0.1">>, 0.1}, {<<"-1.5">>, -1.5}, {<<"5.0e-324">>, 5.0e-324}], [{minor_version, ${version}}])`,
    );
    const pairs = pairsOf(codec.decode(body));
    t.true(pairs.length > 400);
    for (const [text, value] of pairs) {
      const exact: unknown = Number(text);
      t.is(value, exact);
    }
  }
});

function pairsOf(value: unknown): [string, unknown][] {
  if (!Array.isArray(value)) throw new TypeError('not a list');
  return value.map((pair: unknown) => {
    if (!Array.isArray(pair) || typeof pair[0] !== 'string') throw new TypeError('not a pair');
    return [pair[0], pair[1]];
  });
}

withErlang('any value survives the round trip through Erlang exactly', async (t, erlang) => {
  await fc.assert(
    fc.asyncProperty(fc.array(values, { maxLength: 4 }), async (value) => {
      const written = encodeTerm(value);
      t.is(await erlang.compare(written, source(value)), 'same');
      for (const way of ['[]', '[compressed, {minor_version, 2}]'])
        t.deepEqual(
          codec.decode(await erlang.evaluate(`term_to_binary(binary_to_term(Data), ${way})`, written)),
          value,
        );
    }),
    { numRuns: 200 },
  );
});

withErlang('terms that only Erlang understands are refused', async (t, erlang) => {
  const terms: [string, RegExp][] = [
    ['self()', /process id/],
    ['make_ref()', /reference/],
    ['hd(erlang:ports())', /port/],
    ['fun lists:map/2', /function/],
    ['fun(X) -> X end', /function/],
    ['<<1:3>>', /bit string/],
    ['[a | b]', /improper/],
    ['<<255>>', /UTF-8/],
    ['#{1 => 2}', /key/],
    ['#{a => 1, <<"a">> => 2}', /two keys/],
    ['#{nil => 1, <<"nil">> => 2}', /two keys/],
  ];
  for (const [term, reason] of terms) {
    for (const way of ['[]', '[compressed]']) {
      const body = await erlang.evaluate(`term_to_binary(#{id => 1, body => [${term}]}, ${way})`);
      t.throws(() => codec.decode(body), { instanceOf: DecodeError, message: reason }, term);
    }
  }
});
