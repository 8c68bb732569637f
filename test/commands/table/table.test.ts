import test from 'ava';
import fc from 'fast-check';
import { formatTable } from '../../../src/commands/table/table.js';
import { terminalOf } from '../../../src/commands/table/terminal.js';
import { cutTo, widthOf, wrapped } from '../../../src/commands/table/text-width.js';
import { toneOf } from '../../../src/commands/table/tone.js';
import { printable } from '../../../src/lib/printable.js';

const texts = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('日本', 'e\u0301', '👩‍👩‍👧', ''),
);

test('a text is cut to columns of a terminal, between characters', (t) => {
  t.is(cutTo('日本語', 6), '日本語');
  t.is(cutTo('日本語', 5), '日本…');
  t.is(cutTo('日本語', 4), '日…');
  t.is(cutTo('e\u0301a\u0308o', 2), 'e\u0301…');
  t.is(cutTo('text', 0), '');
  fc.assert(fc.property(texts, fc.nat(20), (text, width) => widthOf(cutTo(text, width)) <= width));
});

test('a text is wrapped between words, and loses nothing but spaces', (t) => {
  t.deepEqual(wrapped('one two three', 8), ['one two', 'three']);
  t.deepEqual(wrapped('a-very-long-word', 6), ['a-very', '-long-', 'word']);
  fc.assert(
    fc.property(texts, fc.integer({ min: 2, max: 20 }), (text, width) => {
      const lines = wrapped(text, width);
      t.is(lines.join('').replaceAll(' ', ''), text.replaceAll(' ', ''));
      // One character may be wider than all the space.
      const isOne = (line: string) => [...new Intl.Segmenter().segment(line)].length === 1;
      return lines.every((line) => widthOf(line) <= width || isOne(line));
    }),
  );
});

test('no table is wider than its terminal, begins another line, or controls the terminal', (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(texts, texts, texts)), fc.integer({ min: 30, max: 120 }), (rows, width) => {
      const columns = [{ title: 'NAME' }, { title: 'STATE', isState: true }, { title: 'N', isNumber: true }];
      const lines = formatTable(columns, rows, { width, colours: false, headers: true }).split('\n');
      t.is(lines.length, rows.length + 2);
      t.true(lines.every((line) => widthOf(line) <= width));
      return lines.every((line) => printable(line) === line);
    }),
  );
});

test('the widest columns are cut first, the first column and states last', (t) => {
  const columns = [
    { title: 'NAME' },
    { title: 'STATE', isState: true },
    { title: 'ABOUT' },
    { title: 'N', isNumber: true },
  ];
  const rows = [['a-name-of-20-letters', 'deactivating', 'what it is about', '7']];
  const at = (width: number | undefined) =>
    formatTable(columns, rows, { width, colours: false, headers: false });
  t.is(at(undefined), 'a-name-of-20-letters  deactivating  what it is about  7\n');
  t.is(at(50), 'a-name-of-20-letters  deactivating  what it is…  7\n');
  t.is(at(40), 'a-name-of-20-letters  deacti…  what …  7\n');
});

test('states of systemd and fleet have the tone that they have for a person', (t) => {
  const tones = (words: string) => words.split(' ').map(toneOf);
  t.deepEqual(new Set(tones('failed error FAILED not-found')), new Set(['bad'] as const));
  t.deepEqual(new Set(tones('active running launched ok')), new Set(['good'] as const));
  t.deepEqual(
    new Set(tones('activating deactivating auto-restart stop-sigterm start-pre')),
    new Set(['between'] as const),
  );
  t.deepEqual(new Set(tones('inactive dead loaded exited anything')), new Set([undefined]));
});

test('only a terminal has colours and a width; NO_COLOR and TERM=dumb turn colours off', (t) => {
  const tty = { isTTY: true, columns: 100 };
  t.deepEqual(terminalOf(tty, {}), { isTerminal: true, width: 100, colours: true, canRewrite: true });
  t.like(terminalOf(tty, { NO_COLOR: '1' }), { colours: false, canRewrite: true });
  t.like(terminalOf(tty, { NO_COLOR: '' }), { colours: true });
  t.like(terminalOf(tty, { TERM: 'dumb' }), { colours: false, canRewrite: false });
  t.like(terminalOf({}, {}), { isTerminal: false, width: undefined, colours: false, canRewrite: false });
  t.is(terminalOf({ isTTY: true }, {}).width, 80);
});
