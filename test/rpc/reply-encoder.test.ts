import test from 'ava';
import * as fc from 'fast-check';
import { partOf, RowList } from '../../src/api/row-list.js';
import type { Reply } from '../../src/core/call.js';
import { readPage, readUnit } from '../../src/clusters/fleet/fleet-responses.js';
import { rowListOf, storedRows } from '../../src/clusters/fleet/stored-rows.js';
import { stringifyExactly } from '../../src/lib/exact-json.js';
import { joined } from '../../src/rpc/body-in-pieces.js';
import { DecodeError } from '../../src/rpc/codec/codec.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { jsonCodec, jsonRequestCodec } from '../../src/rpc/codec/json.js';
import { readEnvelope, replyEnvelope } from '../../src/rpc/envelope.js';
import { ReplyEncoder, shrunk } from '../../src/rpc/reply-encoder.js';
import { logLines } from '../support/log-lines.js';

const MAX_BYTES = 1_000;

function encode(reply: Reply, requestBody: Record<string, unknown> = { action: 'act' }) {
  const logs = logLines();
  const envelope = readEnvelope({ id: '13', request_body: requestBody });
  const encoded = new ReplyEncoder(MAX_BYTES).encode(reply, { codec: jsonCodec, envelope, log: logs.log });
  return { ...encoded, sent: JSON.parse(encoded.body.toString()), logs };
}

test('a reply carries the request back, with its id as it was sent', (t) => {
  const { sent } = encode({ status: 'completed', body: [1, 2] });
  t.deepEqual(sent, {
    queue_name: '',
    id: '13',
    status: 'completed',
    request_body: { action: 'act' },
    response_body: [1, 2],
  });
});

test('warnings stand beside the result, where they change nothing for existing callers', (t) => {
  const { sent } = encode({ status: 'completed', body: [1], details: { warnings: ['half of it'] } });
  t.deepEqual(sent.response_body, [1]);
  t.deepEqual(sent.details, { warnings: ['half of it'] });
});

test('a reply that fits is the reply that the caller gets', (t) => {
  const reply: Reply = { status: 'completed', body: 'x'.repeat(MAX_BYTES - 200) };
  t.is(encode(reply).reply, reply);
});

test('a reply that fits only without the request is sent without it', (t) => {
  const { sent, body } = encode(
    { status: 'completed', body: 'done' },
    { action: 'act', action_parameters: 'x'.repeat(MAX_BYTES) },
  );
  t.true(body.length <= MAX_BYTES);
  t.like(sent, { id: '13', status: 'completed', response_body: 'done' });
  t.deepEqual(sent.request_body, {});
});

test('a reply that is too large is replaced by an error that says its size', (t) => {
  const { reply, sent, body } = encode({ status: 'completed', body: 'x'.repeat(MAX_BYTES) });
  t.true(body.length <= MAX_BYTES);
  t.like(reply, { status: 'error', body: { code: 'answer_too_large' } });
  t.like(sent, { status: 'error', response_body: { code: 'answer_too_large' } });
  t.regex(sent.response_body.errors[0], /has 1\d{3} bytes, and the limit is 1000/);
});

test('a reply that cannot be encoded is replaced by an internal error, and the reason is logged', (t) => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  const { reply, sent, logs } = encode({ status: 'completed', body: circular });
  t.like(reply, { status: 'error', body: { code: 'internal' } });
  t.like(sent, { status: 'error', response_body: { code: 'internal' } });
  t.is(logs.find(/^reply encoding failed$/).length, 1);
});

test('what was thrown is never sent', (t) => {
  const settled = {
    status: 'error',
    body: { errors: ['failed'], code: 'internal' },
    cause: new Error('secret'),
  } as const;
  const { body } = encode({ ...settled, body: { ...settled.body, errors: [...settled.body.errors] } });
  t.false(body.toString().includes('secret'));
});

for (const body of [() => 'done', Symbol('done')]) {
  test(`a result that is a ${typeof body} is an internal error`, (t) => {
    const { sent, logs } = encode({ status: 'completed', body });
    t.like(sent, { id: '13', status: 'error', response_body: { code: 'internal' } });
    t.is(logs.find(/^reply encoding failed$/).length, 1);
  });
}

test('a reply that the broker refuses is sent without the copy of the request, in both encodings, or replaced', (t) => {
  const parameters = { a: 'x'.repeat(2_000) };
  const envelope = readEnvelope({ id: '13', request_body: { action: 'act', action_parameters: parameters } });
  for (const codec of [jsonCodec, new ErlangCodec()]) {
    const body = codec.encode(replyEnvelope(envelope, { status: 'completed', body: { list: [1, 'two'] } }));
    const bare = shrunk(body, { codec, envelope }, 1_000);
    t.is(bare.replacement, undefined);
    const kept = { id: '13', status: 'completed', request_body: {}, response_body: { list: [1, 'two'] } };
    t.like(codec.decode(bare.body), kept);
    const { length } = bare.body;
    t.is(shrunk(body, { codec, envelope }, length).replacement, undefined, 'the limit is allowed');
    t.not(shrunk(body, { codec, envelope }, length - 1).replacement, undefined);
    const small = shrunk(body, { codec, envelope }, 50);
    t.like(small.replacement?.body, { code: 'answer_too_large', details: { bytes: body.length, limit: 50 } });
  }
});

test('a reply with more values than can be decoded is replaced when the broker refuses it', (t) => {
  const envelope = readEnvelope({ request_body: { action: 'act' } });
  const reply: Reply = { status: 'completed', body: Array.from({ length: 200_000 }, () => 1) };
  const body = jsonRequestCodec.encode(replyEnvelope(envelope, reply));
  t.throws(() => jsonRequestCodec.decode(body), { instanceOf: DecodeError });
  const { replacement } = shrunk(body, { codec: jsonRequestCodec, envelope }, 300_000);
  t.like(replacement?.body, { code: 'answer_too_large' });
});

test('a defect of an encoding is not taken for a reply that is too large', (t) => {
  const envelope = readEnvelope({ request_body: { action: 'act' } });
  const decode = () => {
    throw new TypeError('a defect');
  };
  const codec = { ...jsonCodec, encode: jsonCodec.encode.bind(jsonCodec), decode };
  t.throws(() => shrunk(Buffer.from('{}'), { codec, envelope }, 1_000), { message: 'a defect' });
});

const UNITS = { of: 'units', readRow: readUnit, keyOf: ({ name }: { name: string }) => name } as const;

/** A unit in the JSON of fleet, with texts and fields of all kinds. */
function fleetUnit() {
  const text = fc.string({ unit: 'binary' });
  const word = fc.option(fc.string({ unit: 'grapheme', maxLength: 20 }));
  const option = fc.record(
    { section: text, name: text, value: text, other: fc.jsonValue() },
    { requiredKeys: ['section', 'name'] },
  );
  return fc.record(
    {
      name: text,
      options: fc.array(option, { maxLength: 4 }),
      desiredState: word,
      currentState: word,
      machineID: word,
      later: fc.oneof(fc.jsonValue(), fc.bigInt()),
    },
    { requiredKeys: ['name'] },
  );
}

/** A list of rows, of seven rows a part, and the same as plain values. */
function rowsOf(count: number) {
  const plain = Array.from({ length: count }, (_, n) => ({
    name: `unit ${n} é\ud800`,
    options: [{ value: '' }],
    state: null,
  }));
  const parts = Array.from({ length: Math.ceil(count / 7) }, (_, part) =>
    partOf(plain.slice(7 * part, 7 * part + 7).map((row) => JSON.stringify(row))),
  );
  return { plain, list: new RowList(parts) };
}

for (const codec of [jsonCodec, new ErlangCodec()]) {
  const encodeRows = async (
    body: RowList<unknown>,
    maxBytes: number,
    requestBody: Record<string, unknown> = {},
  ) => {
    const { log } = logLines();
    const envelope = readEnvelope({ id: '13', request_body: requestBody });
    const encoder = new ReplyEncoder(maxBytes);
    const reply = { status: 'completed', body, details: { warnings: ['half of it'] } } as const;
    const encoded = encoder.encode(await encoder.encodeRows(reply, { codec }), { codec, envelope, log });
    return { ...encoded, sent: codec.decode(joined(encoded.body)) };
  };

  for (const count of [0, 1, 7, 8, 3_000])
    test(`${codec.name}: a list of ${count} rows is sent as the same list of plain values is`, async (t) => {
      const { plain, list } = rowsOf(count);
      const { sent } = await encodeRows(list, 1_000_000, { action: 'act' });
      const envelope = readEnvelope({ id: '13', request_body: { action: 'act' } });
      const reply: Reply = { status: 'completed', body: plain, details: { warnings: ['half of it'] } };
      t.deepEqual(sent, codec.decode(codec.encode(replyEnvelope(envelope, reply))));
    });

  test(`${codec.name}: any units that fleet lists are sent as they are without a list of rows`, async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(fleetUnit(), { maxLength: 6 }), { maxLength: 6 }), async (pages) => {
        const units = pages.map((page) => readPage({ units: page }, UNITS).value.rows);
        const list = rowListOf(units.flatMap((rows) => storedRows(rows, UNITS.keyOf)));
        const { sent } = await encodeRows(list, 1_000_000);
        const envelope = readEnvelope({ id: '13', request_body: {} });
        const details = { warnings: ['half of it'] };
        const reply: Reply = { status: 'completed', body: units.flat(), details };
        t.deepEqual(sent, codec.decode(codec.encode(replyEnvelope(envelope, reply))));
      }),
    );
  });

  test(`${codec.name}: a list of rows is sent without the request, or replaced, when it is too large otherwise`, async (t) => {
    const { list } = rowsOf(3_000);
    const { length } = (await encodeRows(list, 1_000_000)).body;
    const request = { action: 'act', action_parameters: 'x'.repeat(100) };
    const bare = await encodeRows(list, length, request);
    t.like(bare.sent, { id: '13', status: 'completed', request_body: {} });
    t.is(bare.body.length, length);
    const replaced = await encodeRows(list, length - 1, request);
    t.like(replaced.reply, {
      status: 'error',
      body: { code: 'answer_too_large', details: { bytes: length } },
    });
    t.like(replaced.sent, { id: '13', status: 'error', request_body: request });
  });

  test(`${codec.name}: a list of rows that the broker refuses is sent without the copy of the request`, async (t) => {
    const { list, plain } = rowsOf(2_000);
    const envelope = readEnvelope({ request_body: { action: 'act', action_parameters: 'x'.repeat(2_000) } });
    const encoder = new ReplyEncoder(1_000_000);
    const reply = await encoder.encodeRows({ status: 'completed', body: list }, { codec });
    const { body } = encoder.encode(reply, { codec, envelope, log: logLines().log });
    const bare = shrunk(body, { codec, envelope }, body.length - 1);
    t.is(bare.replacement, undefined);
    const kept = { status: 'completed', body: plain } as const;
    t.deepEqual(
      codec.decode(bare.body),
      codec.decode(codec.encode(replyEnvelope(readEnvelope({ request_body: {} }), kept))),
    );
  });
}

test('a list of rows that an encoding cannot carry is replaced by an error', async (t) => {
  const logs = logLines();
  const codec = new ErlangCodec();
  const encoder = new ReplyEncoder(MAX_BYTES);
  const body = new RowList([partOf([JSON.stringify({ '\ud800': 1 })])]);
  const rows = await encoder.encodeRows({ status: 'completed', body }, { codec });
  const envelope = readEnvelope({ id: '13', request_body: {} });
  t.like(encoder.encode(rows, { codec, envelope, log: logs.log }).reply, {
    status: 'error',
    body: { code: 'internal' },
  });
  t.is(logs.lines.length, 1);
});

test('a list of rows is plain values for a channel that encodes replies itself', async (t) => {
  const { list, plain } = rowsOf(9);
  const reply = await new ReplyEncoder(MAX_BYTES).encodeRows(
    { status: 'completed', body: list },
    { codec: jsonCodec },
  );
  t.deepEqual(JSON.parse(stringifyExactly(reply)), { status: 'completed', body: plain });
});
