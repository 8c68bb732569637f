import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { HttpTokens } from '../../src/access/http-tokens.js';
import { parseTokensFile } from '../../src/access/http-tokens-file.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { folder } from '../support/settings.js';
import { httpTokens } from './http-tokens-of.js';

const CI = 'the token of continuous integration';
const OPS = 'the token of the operators';
const sha256 = (token: string) => createHash('sha256').update(token).digest('hex');
const entry = (name: string, token: string, more: object = {}) => ({ name, sha256: sha256(token), ...more });
const ACCEPTED = (name: string) => ({ caller: { name, verifiedBy: 'token' } });
const UNKNOWN = { refused: 'this gateway has no such token' };
/** Later than a file is read again; a change is used when the next reading finds the same. */
const CHECKED_MS = 10_000;

async function fileOf(t: ExecutionContext, content: unknown): Promise<string> {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  return join(await folder(t, { 'tokens.json': text }), 'tokens.json');
}

/** Tokens whose file can be written anew. */
async function watched(t: ExecutionContext, content: unknown) {
  const file = await fileOf(t, content);
  const clock = new ManualClock();
  const logs = logLines();
  const tokens = new HttpTokens({ token: undefined, file, clock, log: logs.log });
  tokens.start();
  return {
    tokens,
    clock,
    logs,
    file,
    write: async (text: unknown) => {
      // As editors and orchestrators do: it is another file then.
      await writeFile(`${file}.new`, typeof text === 'string' ? text : JSON.stringify(text));
      await rename(`${file}.new`, file);
    },
    who: (token: string) => tokens.authenticate(`Bearer ${token}`),
  };
}

test('each token is known as its caller, however the scheme is written', async (t) => {
  const file = await fileOf(t, [
    entry('ci', CI),
    { ...entry('ops', OPS), sha256: sha256(OPS).toUpperCase() },
  ]);
  const { authenticate } = httpTokens({ token: '0123456789abcdef', file });
  t.deepEqual(authenticate(`Bearer ${CI}`), ACCEPTED('ci'));
  t.deepEqual(authenticate(`bEARER ${OPS}`), ACCEPTED('ops'));
  t.deepEqual(authenticate('Bearer 0123456789abcdef'), ACCEPTED('http-token'));
});

test('what is no token of a caller is refused, and the refusal says how to send one', async (t) => {
  const file = await fileOf(t, [entry('ci', CI)]);
  const { authenticate } = httpTokens({ file });
  for (const none of [undefined, '', CI, 'Bearer', `Basic ${CI}`, `Bearer${CI}`])
    t.deepEqual(authenticate(none), {
      refused: 'send a token of this gateway as Authorization: Bearer TOKEN',
    });
  for (const wrong of ['', OPS, `${CI}x`, ` ${CI}`, CI.slice(1), sha256(CI)])
    t.deepEqual(authenticate(`Bearer ${wrong}`), UNKNOWN);
});

test('a short token lets nobody in, although its hash is in the file', async (t) => {
  const [short, shortest] = ['fifteen letters', 'sixteen letters!'];
  const file = await fileOf(t, [entry('short', short), entry('long', shortest)]);
  const { authenticate } = httpTokens({ file });
  t.deepEqual(authenticate(`Bearer ${short}`), UNKNOWN);
  t.deepEqual(authenticate(`Bearer ${shortest}`), ACCEPTED('long'));
});

test('a token is accepted until it expires, by the time of the clock', async (t) => {
  const clock = new ManualClock();
  const expires = new Date(clock.wallTime() + 1_000).toISOString();
  const { authenticate } = httpTokens({ file: await fileOf(t, [entry('ci', CI, { expires })]), clock });
  clock.pass(999);
  t.deepEqual(authenticate(`Bearer ${CI}`), ACCEPTED('ci'));
  clock.pass(1);
  t.deepEqual(authenticate(`Bearer ${CI}`), {
    refused: `the token of ci has expired (${expires}): send a new one`,
  });
});

test('a file without tokens lets nobody in', async (t) => {
  const { authenticate } = httpTokens({ file: await fileOf(t, []) });
  t.deepEqual(authenticate(`Bearer ${CI}`), UNKNOWN);
});

test('a file that changes is used within seconds, also when another file takes its name', async (t) => {
  const { clock, logs, write, who, file } = await watched(t, [entry('ci', CI)]);
  await write([entry('ops', OPS)]);
  clock.advance(CHECKED_MS);
  t.deepEqual(who(CI), ACCEPTED('ci'), 'it may be half written');
  clock.advance(CHECKED_MS);
  t.deepEqual(who(CI), UNKNOWN);
  t.deepEqual(who(OPS), ACCEPTED('ops'));
  clock.advance(CHECKED_MS);
  clock.advance(CHECKED_MS);
  t.deepEqual(
    logs.lines.map(({ message, file: named }) => [message, named]),
    [['HTTP tokens reloaded', file]],
    'one line for each change',
  );
});

test('a file that cannot be used is told once, and the callers stay as they were until it can be', async (t) => {
  const { clock, logs, write, who, file } = await watched(t, [entry('ci', CI)]);
  await write(`[{"name": "ops", "token": "${OPS}"}]`);
  clock.advance(CHECKED_MS);
  clock.advance(CHECKED_MS);
  t.deepEqual(who(CI), ACCEPTED('ci'));
  const [refused, ...more] = logs.find(/^HTTP tokens refused$/);
  t.is(more.length, 0);
  t.like(refused, { level: 'warn', file });
  t.regex(String(refused?.reason), /^'ops': /);
  t.false(JSON.stringify(logs.lines).includes(OPS));
  await rm(file);
  clock.advance(CHECKED_MS);
  clock.advance(CHECKED_MS);
  t.is(logs.find(/refused/).length, 2);
  t.deepEqual(who(CI), ACCEPTED('ci'));
  await write([entry('ops', OPS)]);
  clock.advance(CHECKED_MS);
  clock.advance(CHECKED_MS);
  t.deepEqual([who(CI), who(OPS)], [UNKNOWN, ACCEPTED('ops')]);
});

test('a file is read again at once when that is asked for, and no more after the end', async (t) => {
  const { tokens, clock, logs, write, who } = await watched(t, [entry('ci', CI)]);
  tokens.reload();
  t.is(
    logs.find(/^HTTP tokens reloaded$/).length,
    1,
    'also when nothing has changed: somebody waits for the line',
  );
  await write([entry('ops', OPS)]);
  tokens.reload();
  t.deepEqual(who(OPS), ACCEPTED('ops'));
  tokens.stop();
  t.is(clock.pending, 0);
});

test('a gateway with one token and no file reads nothing again', (t) => {
  const clock = new ManualClock();
  const tokens = httpTokens({ token: CI, clock });
  tokens.start();
  tokens.reload();
  tokens.stop();
  t.is(clock.pending, 0);
  t.deepEqual(tokens.authenticate(`Bearer ${CI}`), ACCEPTED('http-token'));
});

const HASH = sha256(CI);
const REFUSED: Record<string, [content: unknown, problem: RegExp]> = {
  'no JSON': ['name: ci', /^it is not valid JSON$/],
  'no list': [{ name: 'ci', sha256: HASH }, /^it must be a JSON list/],
  'an entry that is no map': [['ci'], /^entry 1: it must be a map/],
  'a token in the place of its hash': [[{ name: 'ci', sha256: CI }], /^'ci': sha256 must be .*sha256sum$/],
  'a token beside its hash': [[{ name: 'ci', sha256: HASH, token: CI }], /^'ci': it may have only name/],
  'no hash': [[{ name: 'ci' }], /^'ci': sha256 must be/],
  'the hash of nothing': [[{ name: 'ci', sha256: sha256('') }], /^'ci': sha256 is that of nothing/],
  'the hash of an empty line': [[{ name: 'ci', sha256: sha256('\n') }], /^'ci': sha256 is that of an empty/],
  'no name': [[{ sha256: HASH }], /^entry 1: name must be/],
  'a name with a colon': [[{ name: 'a:b', sha256: HASH }], /^entry 1: name must be/],
  'a name with a space': [[{ name: 'a b', sha256: HASH }], /^entry 1: name must be/],
  'an empty name': [[{ name: '', sha256: HASH }], /^entry 1: name must be/],
  'a name that is too long': [[{ name: 'a'.repeat(65), sha256: HASH }], /^entry 1: name must be/],
  'a taken name': [
    ['anonymous', 'manager', 'http-token'].map((name) => entry(name, name)),
    /^'anonymous': this name is taken.*; 'manager': .*; 'http-token': /,
  ],
  'a name twice': [[entry('ci', CI), entry('ci', OPS)], /^'ci': another entry has the same name$/],
  'a token twice': [[entry('ci', CI), entry('ops', CI)], /^'ops': it has the same token as 'ci'$/],
  'a time without a zone': [[entry('ci', CI, { expires: '2027-01-01T00:00:00' })], /^'ci': expires must be/],
  'a day as a time': [[entry('ci', CI, { expires: '2027-01-01' })], /^'ci': expires must be/],
  'a time that does not exist': [
    [entry('ci', CI, { expires: '2027-13-01T00:00:00Z' })],
    /^'ci': expires must/,
  ],
  'a number as a time': [[entry('ci', CI, { expires: 1 })], /^'ci': expires must be/],
  'too many tokens': [
    Array.from({ length: 1_001 }, (_, n) => entry(`c${n}`, `${n}`)),
    /^it has more than 1000/,
  ],
};

for (const [what, [content, problem]] of Object.entries(REFUSED))
  test(`a file of tokens is refused: ${what}`, async (t) => {
    const file = await fileOf(t, content);
    const error = t.throws(() => httpTokens({ file }));
    t.regex(error?.message ?? '', problem);
    t.false(error?.message.includes(CI), 'nothing that may be a token is shown');
  });

test('all problems of a file are told together, but not without end', (t) => {
  const told = (content: unknown) => t.throws(() => parseTokensFile(JSON.stringify(content)))?.message ?? '';
  t.regex(told([{ name: 'ci' }, entry('ops', OPS, { expires: '' })]), /^'ci': sha256 .*; 'ops': expires /);
  t.true(told(Array.from({ length: 1_000 }, () => ({}))).length < 10_000);
});

test('a file with a byte order mark is read, and one that is too large or is not there is refused', async (t) => {
  const file = await fileOf(t, `\uFEFF${JSON.stringify([entry('ci', CI)])}`);
  t.deepEqual(httpTokens({ file }).authenticate(`Bearer ${CI}`), ACCEPTED('ci'));
  const large = await fileOf(t, `[]${' '.repeat(2 ** 20)}`);
  t.throws(() => httpTokens({ file: large }), { message: /more than 1048576 bytes/ });
  t.throws(() => httpTokens({ file: '/nowhere/tokens.json' }), { message: /ENOENT/ });
});

test('whatever a file has, it is read or refused with a sentence', (t) => {
  const anyEntry = fc.record(
    { name: fc.anything(), sha256: fc.oneof(fc.anything(), fc.constant(HASH)), expires: fc.anything() },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.array(anyEntry).map((each) => JSON.stringify(each) ?? ''),
      ),
      (text) => {
        try {
          t.true(Array.isArray(parseTokensFile(text)));
        } catch (error) {
          t.regex(String(error), /^Error: (it |entry |')/);
        }
      },
    ),
  );
});
