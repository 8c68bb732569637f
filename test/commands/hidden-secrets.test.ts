import test from 'ava';
import fc from 'fast-check';
import { Cluster } from '../../src/api/cluster.js';
import { withoutSecrets } from '../../src/commands/hidden-secrets.js';

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
