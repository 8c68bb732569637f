import test from 'ava';
import fc from 'fast-check';
import { isSameRequest } from '../../src/openaperture/same-request.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { requestTerm } from '../../src/openaperture/request-term.js';
import { ORIGINAL_REQUESTS, ORIGINAL_STRUCTS } from './original-requests.js';

const REQUEST = {
  action: 'node_info',
  etcd_token: 'token',
  action_parameters: { nodes: ['10.0.0.1', null], deep: { list: [1, 1.5, true], word: 'grün' } },
};

test('a record is that of a request with the same action, token and parameters', (t) => {
  t.true(isSameRequest(REQUEST, REQUEST));
  for (const other of [
    { ...REQUEST, action: 'list_units' },
    { ...REQUEST, etcd_token: 'another' },
    { ...REQUEST, etcd_token: null },
    { ...REQUEST, action_parameters: null },
    { ...REQUEST, action_parameters: { ...REQUEST.action_parameters, more: 1 } },
    { ...REQUEST, action_parameters: { ...REQUEST.action_parameters, nodes: ['10.0.0.1'] } },
    { ...REQUEST, action_parameters: { ...REQUEST.action_parameters, nodes: [null, '10.0.0.1'] } },
    { ...REQUEST, action_parameters: { ...REQUEST.action_parameters, deep: { list: [1] } } },
  ]) {
    t.false(isSameRequest(other, REQUEST), JSON.stringify(other));
    t.false(isSameRequest(REQUEST, other), JSON.stringify(other));
  }
});

test('the order of keys, nulls, empty parameters and the name of a struct make no difference', (t) => {
  const { nodes, deep } = REQUEST.action_parameters;
  const reordered = { action_parameters: { deep: { none: null, ...deep }, nodes }, etcd_token: 'token' };
  t.true(isSameRequest({ ...reordered, action: 'node_info' }, REQUEST));
  t.true(isSameRequest({ action: 'a', action_parameters: {}, etcd_token: null }, { action: 'a' }));
  t.true(isSameRequest({ action: 'a' }, { action: 'a', action_parameters: null, __struct__: 'X' }));
});

test('a record without a request proves nothing', (t) => {
  for (const recorded of [null, {}, '', 'no JSON', [], { action: null, etcd_token: null }])
    t.true(isSameRequest(recorded, REQUEST), JSON.stringify(recorded));
});

test('a record with its request as JSON text, or with text that is encoded twice, is compared', (t) => {
  t.true(isSameRequest(JSON.stringify(REQUEST), REQUEST));
  t.false(isSameRequest(JSON.stringify({ ...REQUEST, action: 'other' }), REQUEST));
  const twice: unknown = JSON.parse(Buffer.from(JSON.stringify(REQUEST)).toString('latin1'));
  t.true(isSameRequest(twice, REQUEST));
});

test('a deeply nested record is compared without an error', (t) => {
  const deep: unknown = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
  t.false(isSameRequest({ ...REQUEST, action_parameters: { deep } }, REQUEST));
});

test('every request is that of the record with its own JSON, in both encodings', (t) => {
  const codec = new ErlangCodec();
  for (const { action, bytes } of [...ORIGINAL_REQUESTS, ...ORIGINAL_STRUCTS]) {
    const { request_body: sent } = codec.decode(bytes) as { request_body: Record<string, unknown> };
    t.true(isSameRequest(JSON.parse(JSON.stringify(sent)), sent), action);
  }
  const text = fc.string({ unit: 'grapheme' });
  const parameters = fc.dictionary(
    text,
    fc.oneof(text, fc.integer(), fc.boolean(), fc.constant(null), fc.array(text)),
  );
  const property = fc.property(text, parameters, (token, action_parameters) => {
    const body = { action: 'list_units', etcd_token: token, action_parameters };
    const { request_body: sent } = codec.decode(requestTerm(13, body)) as {
      request_body: Record<string, unknown>;
    };
    return isSameRequest(JSON.parse(JSON.stringify(body)), sent) && isSameRequest(body, body);
  });
  t.notThrows(() => fc.assert(property));
});
