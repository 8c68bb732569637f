import test from 'ava';
import fc from 'fast-check';
import { MarkedOutput } from '../../src/ssh/marked-output.js';

const MARK = 'abacabad';

/** The stream in chunks that end at these places. */
function chunksOf(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)), stream.length].toSorted(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, index) => stream.subarray(places[index], end));
}

function read(chunks: readonly Buffer[], limit = 1_000_000): { output: MarkedOutput; states: string[] } {
  const output = new MarkedOutput(MARK, limit);
  return { output, states: chunks.map((chunk) => output.add(chunk)) };
}

/** Text that often has a beginning of the mark, and never all of it. */
const nearly = fc
  .array(fc.constantFrom('a', 'b', 'c', 'ab', 'abacaba', 'é', '\n', '0'), { maxLength: 30 })
  .map((parts) => parts.join('').replaceAll(MARK, ''))
  .filter((text) => !`${text}${MARK}`.slice(0, -1).includes(MARK));
const cuts = fc.array(fc.nat(), { maxLength: 8 });

test('only what is between the marks is output, however the stream is divided', (t) => {
  fc.assert(
    fc.property(nearly, nearly, nearly, fc.nat(255), cuts, (before, text, after, status, places) => {
      const stream = Buffer.from(`${before}${MARK}${text}${MARK}${status}\n${after}`);
      const { output } = read(chunksOf(stream, places));
      t.deepEqual([output.text(), output.exitStatus, output.begun], [text, status, true]);
      t.is(output.greeting(), before);
    }),
  );
});

test('without a last mark, all that follows the first one is output, and no exit status is known', (t) => {
  fc.assert(
    fc.property(nearly, nearly, cuts, (before, text, places) => {
      const { output } = read(chunksOf(Buffer.from(`${before}${MARK}${text}`), places));
      t.deepEqual([output.text(), output.exitStatus], [text, undefined]);
    }),
  );
});

test('the limit applies to the output only, and is noticed with the chunk that exceeds it', (t) => {
  fc.assert(
    fc.property(nearly, nearly, fc.nat(40), cuts, (before, text, limit, places) => {
      const stream = Buffer.from(`${before}${MARK}${text}${MARK}0\n`);
      const { output, states } = read(chunksOf(stream, places), limit);
      t.is(states.includes('cut'), Buffer.byteLength(text) > limit);
      t.true(Buffer.byteLength(output.text()) <= limit);
      t.true(text.startsWith(output.text()));
    }),
  );
});

test('a status that is not complete is unknown', (t) => {
  for (const end of ['', '1', '12', '1234\n', 'x\n', '\n'])
    t.is(read([Buffer.from(`${MARK}out${MARK}${end}`)]).output.exitStatus, undefined, end);
});

test('a command that is never begun is not awaited for ever, and the end of what was printed is kept', (t) => {
  const { output, states } = read(Array.from({ length: 300 }, () => Buffer.alloc(1_024, 'x')));
  t.is(states[0], 'more');
  t.is(states.at(-1), 'endless');
  t.false(output.begun);
  t.is(output.greeting(), 'x'.repeat(2_000));
});
