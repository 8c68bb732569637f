import test from 'ava';
import { formatReply } from '../../src/commands/format-reply.js';

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
