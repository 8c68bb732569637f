import { execFileSync, spawnSync } from 'node:child_process';
import test from 'ava';
import * as fc from 'fast-check';
import { ActionError } from '../../src/api/action-error.js';
import { quoteArgv } from '../../src/ssh/quoting.js';

/** Any text, and text that consists only of characters with a meaning to a shell. */
const word = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.string({ unit: 'grapheme', maxLength: 30 }),
    fc.string({ unit: fc.constantFrom(...Array.from(`'"\\$\`!;&|<>(){}[]*?~#=%-,.^ \t\n\raé\x1b`)) }),
    fc.constantFrom('', '-n', '--', '$(id)', '`id`', "'", "''", "'\\''", '$IFS', '~', '*', '\\', '\n', 'a\n'),
  )
  .filter((text) => !text.includes('\0'));

for (const shell of ['sh', 'bash', 'dash'].filter((name) => spawnSync(name, ['-c', 'true']).status === 0)) {
  test(`${shell} reads back every argument unchanged, whatever it contains`, (t) => {
    const argvs = fc.array(fc.array(word, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(argvs, (batch) => {
        // One shell for the whole batch: each line prints its arguments, each ended by a NUL.
        const script = batch.map((argv) => `printf '%s\\0' ${quoteArgv(argv)}\n`).join('');
        const printed = execFileSync(shell, ['-s'], { input: script, maxBuffer: 100_000_000 }).toString();
        t.deepEqual(printed.split('\0').slice(0, -1), batch.flat());
      }),
      { numRuns: 15 },
    );
  });
}

test('a NUL is refused', (t) => {
  const error = t.throws(() => quoteArgv(['echo', 'a\0b']), { instanceOf: ActionError });
  t.is(error?.code, 'invalid_parameters');
});

test('text that is not well-formed Unicode is refused', (t) => {
  const error = t.throws(() => quoteArgv(['echo', 'a\ud800b']), { instanceOf: ActionError });
  t.is(error?.code, 'invalid_parameters');
});
