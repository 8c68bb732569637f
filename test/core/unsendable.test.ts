import { Readable } from 'node:stream';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { ActionError } from '../../src/plugin.js';
import { parseBounded } from '../../src/lib/bounded-json.js';
import { stringifyExactly } from '../../src/lib/exact-json.js';
import { encodeTerm } from '../../src/rpc/codec/erlang-encode.js';
import { unsendableIn } from '../../src/core/unsendable.js';
import { doing } from '../support/actions.js';
import { openRunner } from '../support/open-runner.js';

class Row {
  name = 'web';
}

const shared = { name: 'web' };
const circular: Record<string, unknown> = {};
circular.self = { again: circular };
const revoked = Proxy.revocable({}, {});
revoked.revoke();
const throwing = {
  get name() {
    throw new Error('it was read');
  },
};
let deep: object = {};
for (let n = 0; n < 200; n++) deep = [deep];

for (const [what, value, problem] of [
  ['a stream', { units: [1, { log: Readable.from([]) }] }, 'result.units[1].log is a stream'],
  ['a web stream', { log: new ReadableStream() }, 'result.log is a stream'],
  ['a promise', [Promise.resolve()], 'result[0] is a promise'],
  ['a map', new Map(), 'result is an instance of Map'],
  ['a set', { units: new Set() }, 'result.units is an instance of Set'],
  ['an instance of a class', [new Row()], 'result[0] is an instance of Row'],
  ['an error', { error: new Error('e') }, 'result.error is an instance of Error'],
  ['a function', { handle: () => {} }, 'result.handle is a function'],
  ['a symbol', [Symbol('s')], 'result[0] is a symbol'],
  ['no number', { load: Number.NaN }, 'result.load is NaN'],
  ['a buffer', { file: [Buffer.from('text')] }, 'result.file[0] is an instance of Buffer'],
  ['a typed array', { bytes: new Uint8Array(2) }, 'result.bytes is an instance of Uint8Array'],
  ['a data view', new DataView(new ArrayBuffer(2)), 'result is an instance of DataView'],
  ['an array buffer', [new ArrayBuffer(2)], 'result[0] is an instance of ArrayBuffer'],
  [
    'an integer that is too long',
    { sizes: [1n, -(2n ** 512n)] },
    'result.sizes[1] is an integer that is too long',
  ],
  ['an infinite number', { load: [-Infinity] }, 'result.load[0] is -Infinity'],
  ['itself', circular, 'result.self.again contains itself'],
  ['a getter that throws', { unit: throwing }, 'result.unit.name cannot be read'],
  ['a revoked proxy', { unit: revoked.proxy }, 'result.unit cannot be read'],
  ['a revoked proxy only', revoked.proxy, 'result cannot be read'],
  [
    'a toJSON that returns a map',
    { a: { toJSON: () => ({ b: new Map() }) } },
    'result.a.b is an instance of Map',
  ],
  [
    'a toJSON that returns a buffer',
    { a: { toJSON: () => Buffer.alloc(1) } },
    'result.a is an instance of Buffer',
  ],
] as const) {
  test(`the place of what cannot be sent is named: ${what}`, (t) => {
    t.is(unsendableIn(value, 'result'), problem);
  });
}

test('plain objects can be sent, also those without a prototype and those of another context', (t) => {
  for (const plain of [{ a: 1 }, Object.create(null), runInNewContext('({ a: [{}] })')])
    t.is(unsendableIn(plain, 'result'), undefined);
  t.is(unsendableIn(Object.create(Object.create({})), 'result'), 'result is an instance of Object');
});

test('what is nested too deep cannot be sent', (t) => {
  const within = (levels: number) => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
  t.is(unsendableIn(within(90), 'result'), undefined);
  t.is(unsendableIn(within(91), 'result'), `result${'[0]'.repeat(90)} is nested more than 90 levels deep`);
  t.regex(unsendableIn(deep, 'result') ?? '', /^result(\[0\])+ is nested more than 90 levels deep$/);
});

for (const [what, value] of [
  ['nothing', undefined],
  ['null', null],
  ['plain data', { a: [1, 'b', true, null, undefined, { c: 1n - 2n ** 512n }], d: undefined }],
  ['an object without a prototype', Object.assign(Object.create(null), { a: 1 })],
  ['a date', { at: new Date(0) }],
  ['the same object twice', [shared, shared]],
] as const) {
  test(`${what} can be sent`, (t) => {
    t.is(unsendableIn(value, 'result'), undefined);
  });
}

test('every integer that a request may contain can be sent back, in each encoding', (t) => {
  const largest = 2n ** 512n - 1n;
  const edges = [
    1n,
    2n ** 53n,
    10n ** 154n - 1n,
    10n ** 154n,
    largest,
    largest + 1n,
    10n ** 155n - 1n,
    10n ** 155n,
  ];
  const succeeds = (act: () => unknown) => {
    try {
      act();
      return true;
    } catch {
      return false;
    }
  };
  for (const value of edges.flatMap((each) => [each, -each])) {
    const isSendable = unsendableIn(value, 'result') === undefined;
    t.is(isSendable, value <= largest && value >= -largest);
    t.is(
      succeeds(() => parseBounded(Buffer.from(String(value)), { maxElements: 1 })),
      isSendable,
      String(value),
    );
    t.is(
      succeeds(() => stringifyExactly(value)),
      isSendable,
      String(value),
    );
    t.is(
      succeeds(() => encodeTerm(value)),
      isSendable,
      String(value),
    );
  }
});

test('an error whose details cannot be sent keeps its code and its message, and the log says why', async (t) => {
  for (const [details, reason] of [
    [circular, 'details.self.again contains itself'],
    [{ units: new Map() }, 'details.units is an instance of Map'],
    [{ size: NaN }, 'details.size is NaN'],
    [{ size: 2n ** 512n }, 'details.size is an integer that is too long'],
    [{ bytes: Buffer.alloc(1) }, 'details.bytes is an instance of Buffer'],
  ] as const) {
    const action = doing(async () => {
      throw new ActionError('unit_failed', 'it failed', { details });
    });
    const { ask, logs } = openRunner([action]);
    t.deepEqual(await ask(), { status: 'error', body: { errors: ['it failed'], code: 'unit_failed' } });
    t.deepEqual(
      logs.find(/^error details left out$/).map((line) => line.reason),
      [reason],
    );
  }
});
