import test from 'ava';
import fc from 'fast-check';
import { Cluster } from '../../src/api/cluster.js';
import { withoutMarked, withoutSecrets } from '../../src/commands/hidden-secrets.js';

const TOKEN = 'aToken0123456789';

test('the value of a key that names a secret is hidden, and only a token is told by its hash', (t) => {
  const { hash } = new Cluster(TOKEN);
  t.deepEqual(
    withoutSecrets(
      {
        etcd_token: TOKEN,
        Password: 'abc',
        api_token: { deep: 1 },
        list: [{ secret: 'x' }],
        token: null,
        n: 1,
      },
      TOKEN,
    ),
    {
      etcd_token: `*** (cluster ${hash})`,
      Password: '***',
      api_token: '***',
      list: [{ secret: '***' }],
      token: null,
      n: 1,
    },
  );
  t.deepEqual(withoutSecrets({ etcd_token: 'not a token' }, undefined), { etcd_token: '***' });
});

test('the token of a request is in no text that is shown', (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.string(), fc.string(), (value, before, after) => {
      const text = `${before}${TOKEN}${after}`;
      const shown = JSON.stringify(withoutSecrets({ value, text, [text]: [text, { deep: text }] }, TOKEN));
      t.false(shown.includes(TOKEN));
    }),
  );
});

test('the parameters that an action marks as secrets are hidden at every level, whatever their type', (t) => {
  const secret = { writeOnly: true };
  const schema = {
    properties: {
      pepper: secret,
      list: { items: { properties: { pepper: secret } } },
      pair: { prefixItems: [{}, secret] },
      map: { additionalProperties: secret },
    },
  };
  const message = (parameters: unknown) => ({
    id: 1,
    request_body: { action: 'a', action_parameters: parameters },
  });
  t.deepEqual(
    withoutMarked(
      message({
        pepper: { a: 'hidden' },
        list: [{ pepper: 'hidden', salt: 'shown' }, 'shown'],
        pair: ['shown', 'hidden'],
        map: { a: 'hidden', b: null },
        other: 'shown',
      }),
      schema,
    ),
    message({
      pepper: '***',
      list: [{ pepper: '***', salt: 'shown' }, 'shown'],
      pair: ['shown', '***'],
      map: { a: '***', b: null },
      other: 'shown',
    }),
  );
  for (const other of [undefined, null, 'text', { request_body: 'text' }, message(undefined)])
    t.is(withoutMarked(other, schema), other);
  t.deepEqual(withoutMarked(message({ pepper: 'x' }), undefined), message({ pepper: 'x' }));
});

test('what has the name of a secret in the audit has it here too, and the queues of a dead letter are shown', (t) => {
  const shown = withoutSecrets(
    {
      api_key: 'a',
      ssh_key: 'b',
      pwd: 'c',
      keyword: 'd',
      'x-death': [{ 'routing-keys': ['fleet_manager'] }],
    },
    undefined,
  );
  t.deepEqual(shown, {
    api_key: '***',
    ssh_key: '***',
    pwd: '***',
    keyword: 'd',
    'x-death': [{ 'routing-keys': ['fleet_manager'] }],
  });
});
