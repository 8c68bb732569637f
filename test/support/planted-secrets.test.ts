import test from 'ava';
import { planted, secretIn } from './planted-secrets.js';

test('a planted secret is found in a text, also encoded', (t) => {
  const secret = planted('password');
  t.not(secret, planted('password'));
  for (const [form, text] of [
    ['as it is', `amqp://user:${secret}@host`],
    ['as it is', JSON.stringify({ deep: { token: secret } })],
    ['as it is', encodeURIComponent(secret)],
    ['in hexadecimal', `x${Buffer.from(secret).toString('hex')}x`],
    ['in hexadecimal', Buffer.from(secret).toString('hex').toUpperCase()],
    ...['', 'u', 'us', 'user:'].map((before) => [
      'in Base64',
      Buffer.from(`${before}${secret}`).toString('base64'),
    ]),
    ...['', 'u', 'us', 'user:'].map((before) => [
      'in Base64',
      Buffer.from(`${before}${secret}`).toString('base64url'),
    ]),
  ] as const)
    t.true(secretIn(`before ${text} after`)?.startsWith(`a planted secret, ${form}: `), text);
});

test('nothing is found in a text without a planted secret', (t) => {
  for (const text of ['', 'secret', 'amqp://user:***@host', Buffer.from('password').toString('base64')])
    t.is(secretIn(text), undefined);
});
