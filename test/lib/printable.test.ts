import test from 'ava';
import fc from 'fast-check';
import { printable, printableLines } from '../../src/lib/printable.js';
import { UNSAFE } from '../support/unsafe-characters.js';

const text = fc.string({
  unit: fc.oneof(fc.constantFrom(...UNSAFE), fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })),
});

test('nothing that could control a terminal or a line of a log remains, and other text is unchanged', (t) => {
  for (const unsafe of UNSAFE) t.regex(printable(`a${unsafe}b`), /^a(\\u[0-9a-f]{4})+b$/);
  t.is(printable('grün 日本語 🙂 "x" \\'), 'grün 日本語 🙂 "x" \\');
  const isLoneSurrogate = (each: string) => /\p{Surrogate}/u.test(each);
  const controls = UNSAFE.filter((each) => !isLoneSurrogate(each));
  const property = fc.property(text, (each) => {
    const shown = printable(each);
    return !isLoneSurrogate(shown) && controls.every((unsafe) => !shown.includes(unsafe));
  });
  t.notThrows(() => fc.assert(property));
});

test('text of several lines keeps its line breaks and tabs', (t) => {
  t.is(printableLines('one\n\ttwo\r\n\u001b[2J'), 'one\n\ttwo\\u000d\n\\u001b[2J');
});

test('JSON keeps its value', (t) => {
  fc.assert(
    fc.property(fc.dictionary(text, text), (value) => {
      t.deepEqual(JSON.parse(printable(JSON.stringify(value))), JSON.parse(JSON.stringify(value)));
      t.deepEqual(
        JSON.parse(printableLines(JSON.stringify(value, null, 2))),
        JSON.parse(JSON.stringify(value)),
      );
    }),
  );
});
