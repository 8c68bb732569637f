import test from 'ava';
import { shownAnswer } from '../../src/commands/shown-answer.js';

const LOGS = 'one "line"\n\tanother\n';

test('an answer is JSON for programs, whatever it is', (t) => {
  for (const body of [LOGS, { a: [1, null] }, [], '', null, 3])
    t.deepEqual(JSON.parse(shownAnswer(body, { raw: false, terminal: false })), body);
});

test('a text is printed as it is on a terminal, and where that is asked for; all else stays JSON', (t) => {
  for (const where of [
    { raw: true, terminal: false },
    { raw: false, terminal: true },
  ]) {
    t.is(shownAnswer(LOGS, where), LOGS);
    t.is(shownAnswer('no line break at its end', where), 'no line break at its end\n');
    t.is(shownAnswer('', where), '');
    t.deepEqual(JSON.parse(shownAnswer({ text: LOGS }, where)), { text: LOGS });
  }
});

test('a text cannot steer the terminal, and reaches a file unchanged', (t) => {
  const text = 'grün \u001b[2J\u0007\u009b31m\r\n';
  t.is(shownAnswer(text, { raw: false, terminal: true }), 'grün \ufffd[2J\ufffd\ufffd31m\ufffd\n');
  t.is(shownAnswer(text, { raw: true, terminal: false }), text);
});
