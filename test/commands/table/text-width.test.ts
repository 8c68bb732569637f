import test from 'ava';
import fc from 'fast-check';
import { cutTo, widthOf, wrapped } from '../../../src/commands/table/text-width.js';

const texts = fc.string({ unit: 'grapheme', maxLength: 200 });
const widths = fc.integer({ min: 2, max: 40 });

test('wrapped text has lines that fit, and all of its words', (t) => {
  const property = fc.property(texts, widths, (text, width) => {
    const lines = wrapped(text, width);
    const squeezed = (each: string) => each.replaceAll(' ', '');
    // One character that is wider than all the space is not cut.
    const fits = (line: string) =>
      widthOf(line) <= width || [...new Intl.Segmenter().segment(line)].length === 1;
    return lines.every(fits) && squeezed(lines.join('')) === squeezed(text);
  });
  t.notThrows(() => fc.assert(property));
});

test('a text of megabytes is wrapped and cut, whatever it is made of', (t) => {
  for (const unit of ['z', '👨\u200d', '🇩🇪', 'e\u0301']) {
    const long = unit.repeat(Math.ceil(1_000_000 / unit.length));
    t.true(widthOf(cutTo(long, 80)) <= 80, unit);
  }
  const lines = wrapped('z'.repeat(1_000_000), 80);
  t.is(lines.length, 12_500);
  t.true(lines.every((line) => line.length === 80));
});
