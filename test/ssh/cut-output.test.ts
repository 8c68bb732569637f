import test from 'ava';
import { CutOutput } from '../../src/ssh/cut-output.js';
import { collectGarbage } from '../support/collect-garbage.js';

/** As Node.js passes data from a socket: a view of its own block of memory. */
const chunkOf = (text: string) => Buffer.from(text.padEnd(65_536, '.'));

test('what fits is kept whole, and what comes after the cut is not received again', (t) => {
  const output = new CutOutput(10);
  t.true(output.add(Buffer.from('12345')));
  t.false(output.add(Buffer.from('678901')));
  t.false(output.add(Buffer.from('x')));
  t.false(output.add(Buffer.alloc(0)));
  t.is(output.text(), '1234567890');
});

test('output of exactly the limit is not cut', (t) => {
  const output = new CutOutput(5);
  t.true(output.add(Buffer.from('12345')));
  t.is(output.text(), '12345');
});

test('a program that writes endlessly uses no more memory than the limit', async (t) => {
  const output = new CutOutput(100_000);
  const blocks = Array.from({ length: 200 }, (_, n) => {
    const chunk = chunkOf(String(n));
    output.add(chunk);
    return new WeakRef(chunk.buffer);
  });
  // A new WeakRef keeps its target alive until the next turn of the event loop.
  await new Promise(setImmediate);
  collectGarbage();
  t.is(blocks.filter((block) => block.deref() !== undefined).length, 0);
  t.is(output.text().length, 100_000);
});

test('a text that begins with a byte order mark keeps it', (t) => {
  const output = new CutOutput(10);
  output.add(Buffer.from('\u{feff}text'));
  t.is(output.text(), '\u{feff}text');
});
