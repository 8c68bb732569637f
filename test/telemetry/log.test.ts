import { Writable } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import { Cluster } from '../../src/api/cluster.js';
import { hostileValues } from '../support/hostile-values.js';
import { Log, type LogLevel } from '../../src/telemetry/log.js';

/** A log, and what it has written so far. */
function logged(
  format: 'json' | 'text',
  level: LogLevel = 'debug',
): { log: Log; text: () => string; last: () => string } {
  let text = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk);
      done();
    },
  });
  const log = Log.create({ level, format, stream });
  return { log, text: () => text, last: () => text.trimEnd().split('\n').at(-1) ?? '' };
}

function fieldsOf(line: string): Record<string, unknown> {
  return JSON.parse(line);
}

test('a line in JSON is one object with time, level, message and fields', (t) => {
  const { log, text } = logged('json');
  log.info('request completed', { took_ms: 12, cluster: new Cluster('secret-token') });
  t.is(text().split('\n').length, 2);
  const { time, ...rest } = fieldsOf(text());
  t.true(Math.abs(Date.parse(String(time)) - Date.now()) < 60_000);
  t.deepEqual(rest, {
    level: 'info',
    message: 'request completed',
    took_ms: 12,
    cluster: new Cluster('secret-token').hash,
  });
  t.false(text().includes('secret-token'));
});

test('a line for people begins with time, level and message', (t) => {
  const { log, last } = logged('text');
  log.warn('broker down', {
    broker: 'amqp://10.0.0.1:5672',
    times: 3,
    reason: 'it said "no"',
    list: ['a', 1],
  });
  t.regex(
    last(),
    /^\d\d:\d\d:\d\d\.\d{3} warn {2}broker down broker=amqp:\/\/10\.0\.0\.1:5672 times=3 reason="it said \\"no\\"" list=\["a",1\]$/,
  );
});

test('every line of a bound log has its fields', (t) => {
  const { log, last } = logged('json');
  const bound = log.with({ request: '1', action: 'greet' }).with({ cluster: 'abc', request: '2' });
  bound.error('failed', { code: 'timeout' });
  t.like(fieldsOf(last()), {
    level: 'error',
    request: '2',
    action: 'greet',
    cluster: 'abc',
    code: 'timeout',
  });
  log.info('other');
  t.false('request' in fieldsOf(last()));
});

test("a field cannot replace the line's own keys", (t) => {
  const { log, last } = logged('json');
  log.with({ level: 'error' }).info('said', { message: 'not said', time: 'never', level: 'warn' });
  t.like(fieldsOf(last()), { level: 'info', message: 'said' });
  t.not(fieldsOf(last()).time, 'never');
});

test('less important lines than the level are left out', (t) => {
  for (const [level, expected] of [
    ['error', ['error']],
    ['warn', ['error', 'warn']],
    ['info', ['error', 'warn', 'info']],
    ['debug', ['error', 'warn', 'info', 'debug']],
  ] as const) {
    const { log, text } = logged('json', level);
    log.error('e');
    log.warn('w');
    log.info('i');
    log.debug('d');
    const lines = text().trimEnd().split('\n');
    t.deepEqual(
      lines.map((line) => fieldsOf(line).level),
      [...expected],
    );
  }
});

test('an error shows its stack and its causes', (t) => {
  const { log, last } = logged('json');
  const cause = new RangeError('out of reach');
  log.error('failed', { error: new Error('outer', { cause: new Error('middle', { cause }) }) });
  const shown = String(fieldsOf(last()).error);
  t.regex(shown, /^Error: outer\n {4}at .*log\.test/);
  t.regex(shown, /\ncaused by: Error: middle\n/);
  t.regex(shown, /\ncaused by: RangeError: out of reach\n/);
  log.error('failed', { error: new AggregateError([new Error('first'), 'second'], 'both') });
  t.regex(String(fieldsOf(last()).error), /both[^]*caused by: Error: first[^]*caused by: 'second'$/);
});

test('a line for people shows the stack of an error too', (t) => {
  const { log, last } = logged('text');
  log.error('failed', { error: new TypeError('no such thing') });
  t.regex(last(), / error failed error="TypeError: no such thing\\n {4}at .*log\.test/);
});

test('an error that is its own cause is written', (t) => {
  const { log, last } = logged('json');
  const error = new Error('round');
  error.cause = error;
  log.error('failed', { error });
  t.regex(String(fieldsOf(last()).error), /^Error: round\n[^]*\ncaused by: Error: round\n/);
  t.true(String(fieldsOf(last()).error).length < 20_000);
  log.error('failed', { error: new Error('round', { cause: { error } }) });
  t.true(String(fieldsOf(last()).error).length < 20_000);
});

test('numbers beyond JSON and values that refer to themselves are written', (t) => {
  const round: Record<string, unknown> = { name: 'round' };
  round.self = round;
  for (const format of ['json', 'text'] as const) {
    const { log, last } = logged(format);
    log.info('said', { id: 2n ** 64n, round, nothing: undefined, also: [10n] });
    t.regex(last(), /said/);
    t.regex(last(), /18446744073709551616/);
    t.regex(last(), /name: 'round'|"name":"round"/);
    if (format === 'json') t.is(fieldsOf(last()).message, 'said');
  }
});

for (const [what, value] of hostileValues()) {
  test(`a line with ${what} is written`, (t) => {
    for (const format of ['json', 'text'] as const) {
      const { log, last } = logged(format);
      for (const fields of [{ value }, { within: { value } }, { error: new Error('e', { cause: value }) }]) {
        log.error('said', { ...fields, request: '7' });
        t.regex(last(), format === 'json' ? /"message":"said"/ : / error said /);
        t.regex(last(), /request"?[:=]"?7/);
      }
    }
  });
}

test('any logged value stays on one line without terminal codes', (t) => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('\n', '\r', '\u001b[2J', '\u009b1m', '\u2028', '\0', 'a', '"', '\u007f'),
    }),
  );
  const property = fc.property(hostile, hostile, (message, value) => {
    for (const format of ['json', 'text'] as const) {
      const { log, text } = logged(format);
      log.info(message, { value, [value]: message, list: [value] });
      const line = text();
      t.is(line.indexOf('\n'), line.length - 1);
      // oxlint-disable-next-line no-control-regex
      t.notRegex(line.slice(0, -1), format === 'text' ? /[\p{Cc}\u2028\u2029]/u : /[\u0000-\u001f]/);
      if (format === 'json') t.is(fieldsOf(line).message, message);
    }
  });
  fc.assert(property, { numRuns: 300 });
});
