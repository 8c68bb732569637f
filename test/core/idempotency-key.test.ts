import test from 'ava';
import fc from 'fast-check';
import { ANONYMOUS, type Caller, MANAGER } from '../../src/api/caller.js';
import {
  askedFor,
  IDEMPOTENCY_KEY_PATTERN,
  idempotencyKeyHeader,
  isIdempotencyKey,
  namedChange,
  readIdempotencyKey,
} from '../../src/core/idempotency-key.js';
import { callOf } from '../support/open-runner.js';

test('a key is read in quotes, as the draft has it, and bare, as most callers send it', (t) => {
  for (const [sent, key] of [
    ['8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['order:42/retry=1+2@shop', 'order:42/retry=1+2@shop'],
    ['"two words, and; more"', 'two words, and; more'],
    ['"a \\"quote\\" and a \\\\"', 'a "quote" and a \\'],
    ['x', 'x'],
    ['k'.repeat(128), 'k'.repeat(128)],
    [`"${'\\"'.repeat(128)}"`, '"'.repeat(128)],
  ] as const)
    t.deepEqual(readIdempotencyKey(sent), { key });
});

test('what is no single key of 1 to 128 printable ASCII characters is refused with the reason', (t) => {
  for (const sent of [
    '',
    '""',
    ' ',
    'two words',
    'one, two',
    '"one", "two"',
    '"one"; parameter=1',
    'one;two',
    '"open',
    'open"',
    '"',
    '\\',
    '"\\x"',
    'k'.repeat(129),
    `"${'k'.repeat(129)}"`,
    'k'.repeat(1_000_000),
    'clé',
    '"ключ"',
    'a\nb',
    '"a\u0000b"',
    '"a\u007fb"',
    'a\tb',
    7,
    true,
    {},
    ['k'],
    Buffer.from('k'),
  ]) {
    const read = readIdempotencyKey(sent);
    t.true(
      'problem' in read && /1 to 128 printable ASCII/.test(read.problem),
      JSON.stringify(sent).slice(0, 20),
    );
  }
});

test('whatever the key, the header for it is read as it, and whatever the header, what is read of it is a key', (t) => {
  const characters = fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code));
  const keys = fc.array(characters, { minLength: 1, maxLength: 128 }).map((all) => all.join(''));
  fc.assert(
    fc.property(keys, (key) => {
      t.deepEqual(readIdempotencyKey(idempotencyKeyHeader(key)), { key });
    }),
  );
  const published = new RegExp(IDEMPOTENCY_KEY_PATTERN, 'u');
  const isAsPublished = (sent: string) => published.test(sent) === 'key' in readIdempotencyKey(sent);
  fc.assert(fc.property(keys, (key) => isAsPublished(key) && isAsPublished(idempotencyKeyHeader(key))));
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 140 }), isAsPublished));
  for (const length of [0, 1, 127, 128, 129])
    for (const sent of ['k'.repeat(length), `"${'k'.repeat(length)}"`, `"${'\\\\'.repeat(length)}"`])
      t.true(isAsPublished(sent), sent);
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 140 }), (sent) => {
      const read = readIdempotencyKey(sent);
      t.true('problem' in read || isIdempotencyKey(read.key));
    }),
  );
});

test('a change is named by queue, caller and key, and a caller by its name, whoever has verified it', (t) => {
  const ci = (verifiedBy: Caller['verifiedBy']): Caller => ({ name: 'ci', verifiedBy });
  const name = namedChange('q', ci('broker'), 'k');
  t.is(namedChange('q', ci('token'), 'k'), name);
  t.is(namedChange('q', ci('service'), 'k'), name);
  t.is(namedChange('q', ANONYMOUS, 'k'), namedChange('q', { name: 'ci', verifiedBy: undefined }, 'k'));
  const others = [
    namedChange('q', { name: 'ops', verifiedBy: 'broker' }, 'k'),
    namedChange('q', ANONYMOUS, 'k'),
    namedChange('q', MANAGER, 'k'),
    // A user of the broker may have any name.
    namedChange('q', { name: 'manager', verifiedBy: 'broker' }, 'k'),
    namedChange('q', { name: 'anonymous', verifiedBy: 'broker' }, 'k'),
    namedChange('other', ci('broker'), 'k'),
    namedChange('q', ci('broker'), 'other'),
  ];
  t.is(new Set([name, ...others]).size, 8);
});

test('two calls ask for the same when action, cluster and parameters are equal', (t) => {
  const call = {
    idempotencyKey: 'n',
    action: 'act',
    parameters: { a: 1, b: { c: ['x', null], d: 2n ** 70n } },
  };
  const of = (changes: object, target: unknown = 'token') =>
    askedFor(callOf({ ...call, ...changes }), target);
  const same = of({});
  t.is(of({ id: 'other', timeoutMs: 5, encoding: 'erlang', door: 'http' }), same);
  t.is(of({ parameters: { b: { d: 2n ** 70n, c: ['x', null] }, a: 1.0 } }), same);
  t.is(of({ parameters: {} }), of({ parameters: undefined }));
  t.is(of({ parameters: {} }), of({ parameters: null }));
  t.is(askedFor(callOf(call), undefined), of({}, null));
  const others = [
    of({ action: 'other' }),
    of({}, 'other'),
    of({}, null),
    of({ parameters: { ...call.parameters, a: 2 } }),
    of({ parameters: { ...call.parameters, a: '1' } }),
    of({ parameters: { ...call.parameters, e: null } }),
    of({ parameters: { a: 1, b: { c: [null, 'x'], d: 2n ** 70n } } }),
    of({ parameters: {} }),
    of({ idempotencyKey: 'another name' }),
  ];
  t.is(new Set([same, ...others]).size, 10);
});
