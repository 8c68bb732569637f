import test from 'ava';
import { formatReply } from '../../src/commands/format-reply.js';
import { UNSAFE } from '../support/unsafe-characters.js';

const LOGS = 'one "line"\n\tanother\n';

test('a reply of any type is JSON for programs', (t) => {
  for (const body of [LOGS, { a: [1, null] }, [], '', null, 3])
    t.deepEqual(JSON.parse(formatReply(body, { raw: false, terminal: false })), body);
});

test('a string is printed unchanged on a terminal and with --raw; other replies stay JSON', (t) => {
  for (const where of [
    { raw: true, terminal: false },
    { raw: false, terminal: true },
  ]) {
    t.is(formatReply(LOGS, where), LOGS);
    t.is(formatReply('no line break at its end', where), 'no line break at its end\n');
    t.is(formatReply('', where), '');
    t.deepEqual(JSON.parse(formatReply({ text: LOGS }, where)), { text: LOGS });
  }
});

test('a string cannot control the terminal, and is written to a file unchanged', (t) => {
  const text = 'grün \u001b[2J\u0007\u009b31m\r\n';
  t.is(formatReply(text, { raw: false, terminal: true }), 'grün \\u001b[2J\\u0007\\u009b31m\\u000d\n');
  t.is(formatReply(text, { raw: true, terminal: false }), text);
});

test('JSON keeps its value, and nothing in it can control a terminal', (t) => {
  const body = { error: `fleet said ${UNSAFE.join('x')}`, [UNSAFE.join('y')]: 1 };
  const text = formatReply(body, { raw: false, terminal: true });
  t.deepEqual(JSON.parse(text), body);
  t.deepEqual(
    UNSAFE.filter((each) => each !== '\n' && text.includes(each)),
    [],
  );
});
