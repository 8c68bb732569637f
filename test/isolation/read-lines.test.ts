import { PassThrough } from 'node:stream';
import test from 'ava';
import { readLines } from '../../src/isolation/read-lines.js';

/** The lines of text that arrives in these chunks, and those that were read before it ended. */
async function linesOf(chunks: readonly (string | Buffer)[], maxLength = 5) {
  const text = new PassThrough();
  const lines: string[] = [];
  readLines(text, maxLength, (line) => lines.push(line));
  for (const chunk of chunks) text.write(chunk);
  await new Promise(setImmediate);
  const before = [...lines];
  text.end();
  await new Promise((resolve) => text.once('close', resolve));
  return { lines, before };
}

test('lines are read whole, however they arrive', async (t) => {
  const [a, b] = [Buffer.from('é').subarray(0, 1), Buffer.from('é').subarray(1)];
  const { lines, before } = await linesOf(['on', 'e\ntwo\n\n', a, b, '\nfour']);
  t.deepEqual(before, ['one', 'two', '', 'é']);
  t.deepEqual(lines, ['one', 'two', '', 'é', 'four']);
});

test('a line that is too long is cut at once, and its rest dropped', async (t) => {
  const { before } = await linesOf(['12345\n123', '456', '789', '0\nnext\n1234567']);
  t.deepEqual(before, ['12345', '12345', 'next', '12345']);
});

test('text without a line break is one line, which is read before the text ends', async (t) => {
  const { lines, before } = await linesOf(Array.from({ length: 1_000 }, () => 'x'.repeat(1_000)));
  t.deepEqual(before, ['xxxxx']);
  t.deepEqual(lines, before);
});
