import test from 'ava';
import fc from 'fast-check';
import { array, object, string } from 'yup';
import { maskedParameters } from '../../../src/access/audit/masked-parameters.js';
import { namesSecret } from '../../../src/lib/names-secret.js';
import { textOf } from '../../../src/access/audit/audit-line.js';
import { jsonSchemaOf } from '../../../src/core/json-schema.js';
import { planted } from '../../support/planted-secrets.js';
import { UNSAFE } from '../../support/unsafe-characters.js';

const PLANTED = planted('audit');

test('a field that its action marks as a secret is masked, at any level', (t) => {
  const secret = () => string().meta({ secret: true, description: 'A secret.' });
  const schema = jsonSchemaOf(
    object({
      plain: string().meta({ description: 'Plain.' }),
      pepper: secret(),
      deep: object({ salt: secret() }).meta({ description: 'Deep.' }),
      list: array(secret()).meta({ description: 'A list.' }),
    }),
  );
  const parameters = { plain: 'text', pepper: PLANTED, deep: { salt: PLANTED }, list: [PLANTED, PLANTED] };
  t.deepEqual(maskedParameters(parameters, schema), {
    plain: 'text',
    pepper: '***',
    deep: { salt: '***' },
    list: ['***', '***'],
  });
});

test('a field whose name says that it is a secret is masked, whatever its value is', (t) => {
  for (const name of [
    'password',
    'db_password',
    'dbPassword',
    'PASSWD',
    'pwd',
    'passphrase',
    'client_secret',
    'secrets',
    'token',
    'etcd_token',
    'accessToken',
    'api_key',
    'apiKey',
    'APIKEY',
    'ssh-key',
    'key',
    'keys',
    'credentials',
    'Authorization',
    'auth',
  ]) {
    t.true(namesSecret(name), name);
    for (const value of [PLANTED, { of: PLANTED }, [PLANTED]])
      t.deepEqual(maskedParameters({ in: { [name]: value } }, undefined), { in: { [name]: '***' } });
  }
  for (const name of ['unit_name', 'keyword', 'monkey', 'author', 'wait_seconds', 'pinned', 'option'])
    t.false(namesSecret(name), name);
});

test('a password in a URL is masked', (t) => {
  t.deepEqual(maskedParameters({ url: `https://user:${PLANTED}@example.com/path` }, undefined), {
    url: 'https://***@example.com/path',
  });
});

test('parameters of any form take a few kilobytes on one line, and hide what is under a name of a secret', (t) => {
  const hostile = fc.oneof(fc.string({ unit: 'binary', maxLength: 500 }), fc.constantFrom(...UNSAFE));
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 12 },
      hostile,
      fc.integer(),
      fc.bigInt(),
      fc.constant(null),
      fc.array(tie('tree'), { maxLength: 300 }),
      fc.dictionary(hostile, tie('tree'), { maxKeys: 20 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      const parameters = maskedParameters(
        { password: PLANTED, value, more: { token: [PLANTED] } },
        undefined,
      );
      const text = textOf({ time: '', event: 'begun', id: '', parameters, worker: '', version: '' });
      t.true(Buffer.byteLength(text) < 64 * 1024);
      t.false(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(text));
      t.false(text.includes(PLANTED));
      t.notThrows(() => JSON.parse(text));
    }),
    { numRuns: 200 },
  );
});

test('what cannot be read is masked', (t) => {
  const parameters = Object.defineProperty({}, 'text', {
    enumerable: true,
    get: () => {
      throw new Error('not now');
    },
  });
  t.is(maskedParameters(parameters, undefined), '***');
});
