import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { constants, deflateRawSync, deflateSync } from 'node:zlib';
import test from 'ava';
import { DecodeError } from '../../../src/rpc/codec/codec.js';
import { ErlangCodec } from '../../../src/rpc/codec/erlang.js';
import { atom, atomKeys } from '../../../src/rpc/codec/erlang-atom.js';
import { TermReader } from '../../../src/rpc/codec/erlang-decode.js';
import { encodeTerm } from '../../../src/rpc/codec/erlang-encode.js';
import { StringCache } from '../../../src/rpc/codec/erlang-string-cache.js';
import { erlangLimits } from '../../../src/rpc/codec/erlang-limits.js';
import { collectGarbage } from '../../support/collect-garbage.js';

const MEBIBYTE = 1024 * 1024;
const TAGS = [
  70, 77, 80, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113,
  114, 115, 116, 117, 118, 119, 120, 131,
];
const LENGTHS = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffb, 0xffffffff];
const KILLERS = [
  '836c7fffffff6dfffffffb',
  '8369ffffffff',
  '8374ffffffff',
  '836fffffffff01',
  `83${'6c00000001'.repeat(300)}`,
  `83${'6801'.repeat(300)}`,
  `83${'74000000016a'.repeat(100)}`,
  `83${'74000000017701616a'.repeat(100)}`,
  '8350ffffffff789c030000000001',
  '835000000000789c030000000001',
];

const OLD_FORMS = [
  '640003666f6f',
  '7303666f6f',
  '7600026261',
  '6b0003010203',
  `63${Buffer.from('2.50000000000000000000e+00').toString('hex')}0000000000`,
  '69000000016a',
  '6f0000000901010203040506070809',
];

function compress(term: Buffer): Buffer {
  const head = Buffer.from([131, 80, 0, 0, 0, 0]);
  head.writeUInt32BE(term.length - 1, 2);
  return Buffer.concat([head, deflateSync(term.subarray(1))]);
}

function corpus(): Buffer[] {
  const request = encodeTerm(
    atomKeys({
      queue_name: '',
      id: 4_294_967_296,
      status: atom('not_started'),
      request_body: atomKeys({
        etcd_token: '3a1b2c3d4e5f60718293a4b5c6d7e8f9',
        action: atom('node_info'),
        action_parameters: atomKeys({ nodes: ['10.0.0.1', 'wörker', 2n ** 70n, -1.5, 300], on: true }),
      }),
      response_body: null,
    }),
  );
  const oldForms = Buffer.from(`836807${OLD_FORMS.join('')}`, 'hex');
  const plain = [request, oldForms, ...KILLERS.map((hex) => Buffer.from(hex, 'hex'))];
  return [...plain, ...plain, ...plain, compress(request), compress(oldForms)];
}

/** Xorshift32: the same seed gives the same terms. Gives whole numbers from 0 to below `end`. */
function generator(seed: number): (end: number) => number {
  let state = seed;
  return (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % end;
  };
}

type Below = ReturnType<typeof generator>;

function pick<T>(below: Below, from: readonly [T, ...T[]] | readonly T[], fallback: T): T {
  return from[below(from.length)] ?? fallback;
}

/** Changes one place: a byte, a tag, a length, or a piece that is removed, doubled or taken from another term. */
function mutate(below: Below, body: Buffer, other: Buffer): Buffer {
  const at = below(body.length + 1);
  const piece = below(12);
  const changed = Buffer.from(body);
  switch (below(6)) {
    case 0:
      if (at < body.length) changed.writeUInt8(below(256), at);
      return changed;
    case 1:
      if (at < body.length) changed.writeUInt8(pick(below, TAGS, 0), at);
      return changed;
    case 2:
      if (at + 4 <= body.length) changed.writeUInt32BE(pick(below, LENGTHS, 0), at);
      return changed;
    case 3:
      return Buffer.concat([body.subarray(0, at), body.subarray(at + piece)]);
    case 4:
      return Buffer.concat([body.subarray(0, at + piece), body.subarray(at)]);
    default: {
      const from = below(other.length + 1);
      return Buffer.concat([body.subarray(0, at), other.subarray(from, from + piece * 4), body.subarray(at)]);
    }
  }
}

/** Tags and lengths in any order: valid far more often than random bytes are. */
function randomTerm(below: Below): Buffer {
  const bytes = [131];
  const length = below(60);
  for (let i = 0; i < length; i++) {
    const kind = below(4);
    if (kind === 0) bytes.push(below(256));
    else if (kind === 1) bytes.push(0, 0, 0, below(4));
    else bytes.push(pick(below, TAGS, 0));
  }
  return Buffer.from(bytes);
}

const LIMITS = erlangLimits({ elements: 10_000, inflatedBytes: 64 * 1024 });

/** Reads an arbitrary body, and reports any problem. */
function fault(body: Buffer, known: StringCache): string | undefined {
  const reader = new TermReader(body, LIMITS, known);
  let value: unknown;
  try {
    value = reader.read();
  } catch (error) {
    if (!(error instanceof DecodeError)) return `it threw ${String(error)}`;
    return bounded(reader, body);
  }
  const written = encodeTerm(value);
  if (!encodeTerm(new TermReader(written, LIMITS, known).read()).equals(written))
    return 'it changed on a round trip';
  return bounded(reader, body);
}

function bounded(reader: TermReader, body: Buffer): string | undefined {
  const most = body[1] === 80 ? LIMITS.inflatedBytes : body.length;
  return reader.elements > Math.min(most, LIMITS.elements + 1)
    ? `it took ${reader.elements} elements`
    : undefined;
}

/** Live memory after garbage collection; zlib releases a failed stream in a later turn of the event loop. */
async function liveBytes(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collectGarbage();
    await nextTurn();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test.serial(
  '100,000 mutated and random terms give a value or a DecodeError, with limited work and memory',
  async (t) => {
    const seed = randomInt(1, 2 ** 31);
    t.log(`seed ${seed}`);
    const below = generator(seed);
    const bodies = corpus();
    const first = Buffer.from([131, 106]);
    const known = new StringCache();
    const depthOfTrace = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    t.teardown(() => {
      Error.stackTraceLimit = depthOfTrace;
    });
    let before = 0;
    let read = 0;
    for (let i = 0; i < 100_000; i++) {
      let body = below(4) === 0 ? randomTerm(below) : pick(below, bodies, first);
      for (let edits = below(5); edits > 0; edits--) body = mutate(below, body, pick(below, bodies, first));
      const wrong = fault(body, known);
      if (wrong !== undefined) throw new Error(`${wrong}: ${body.toString('hex')}`);
      read += body.length;
      if (i % 200 === 0) await nextTurn();
      if (i === 20_000) before = await liveBytes();
    }
    const grown = (await liveBytes()) - before;
    t.log(`${read} bytes, grown by ${grown}`);
    t.true(grown < MEBIBYTE, `memory grew by ${grown} bytes`);
  },
);

test.serial('a compression bomb stops at the limit', (t) => {
  // A flush makes whole blocks that can be repeated: 1 KiB for each MiB of zeros.
  const block = deflateRawSync(Buffer.alloc(MEBIBYTE), { finishFlush: constants.Z_FULL_FLUSH });
  const stream = [Buffer.from([0x78, 0x9c]), ...Array.from({ length: 1024 }, () => block)];
  const declares = (size: number) => {
    const head = Buffer.from([131, 80, 0, 0, 0, 0]);
    head.writeUInt32BE(size, 2);
    return Buffer.concat([head, ...stream]);
  };
  const codec = new ErlangCodec();
  const before = process.resourceUsage().maxRSS;
  t.throws(() => codec.decode(declares(1024 * MEBIBYTE)), {
    instanceOf: DecodeError,
    message: /larger than 16777216/,
  });
  t.throws(() => codec.decode(declares(16 * MEBIBYTE)), {
    instanceOf: DecodeError,
    message: /than it declares/,
  });
  t.throws(() => codec.decode(declares(1)), { instanceOf: DecodeError, message: /than it declares/ });
  const grownKibibytes = process.resourceUsage().maxRSS - before;
  t.true(grownKibibytes < 128 * 1024, `memory reached ${grownKibibytes} KiB more`);
});

test.serial('the largest term within all limits is read without problems', (t) => {
  const items = Buffer.alloc(99_999 + 6, 106);
  items.writeUInt8(105, 0);
  items.writeUInt32BE(99_999, 1);
  const value = new ErlangCodec().decode(Buffer.concat([Buffer.from([131]), items.subarray(0, 99_999 + 5)]));
  t.true(Array.isArray(value) && value.length === 99_999);
});
