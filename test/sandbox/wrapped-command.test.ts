import test from 'ava';
import fc from 'fast-check';
import { readWrappedCommand } from '../../src/sandbox/wrapped-command.js';
import { remoteCommand } from '../../src/ssh/remote-command.js';

const anyWord = fc.oneof(
  fc.string({ unit: 'grapheme' }).filter((word) => !word.includes('\0')),
  fc.constantFrom("'", "'\\''", "a'b''c'", '\\', 'exec', 'sudo', 'sh', '', ' ', '\n', '7'),
);
const anyCommand = fc.record({
  argv: fc
    .tuple(anyWord, fc.array(anyWord))
    .map(([program, args]): [string, ...string[]] => [program, ...args]),
  mark: fc.string({ minLength: 1, unit: fc.constantFrom('a', 'f', '0', '9') }),
  sudo: fc.boolean(),
  limitSeconds: fc.nat(100_000),
});

test('a command that the remote shell wraps is found again, word for word', (t) => {
  fc.assert(
    fc.property(anyCommand, ({ argv, ...options }) => {
      t.deepEqual(readWrappedCommand(remoteCommand(argv, options)), { argv, ...options });
    }),
  );
});

test('a string that differs from a wrapped command means another command, or none', (t) => {
  const change = fc.record({ at: fc.nat(), cut: fc.nat(2), put: fc.string({ maxLength: 2 }) });
  fc.assert(
    fc.property(anyCommand, change, ({ argv, ...options }, { at, cut, put }) => {
      const line = remoteCommand(argv, options);
      const from = at % (line.length + 1);
      const changed = line.slice(0, from) + put + line.slice(from + cut);
      const found = readWrappedCommand(changed);
      if (found === undefined) return;
      t.is(remoteCommand(found.argv, found), changed);
    }),
  );
});

/** A word in the script, as it is in the line. */
const quoted = (word: string) => `\\0047${word}\\0047`;

test('other texts are not taken for a wrapped command', (t) => {
  const line = remoteCommand(['docker', 'version'], { mark: 'abc', limitSeconds: 5, sudo: false });
  const others = [
    '',
    'docker version',
    "exec 'docker' 'version'",
    line.slice(0, line.indexOf(quoted('5'))),
    line.replace(quoted('5'), quoted('05')),
    line.replace(quoted('5'), quoted('-5')),
    line.replace(` ${quoted('docker')} ${quoted('version')}`, ''),
    line.replace(quoted('docker'), 'docker'),
    line.replace(quoted('docker'), `${quoted('docker')} `),
    line.replace('docker', '\\0144ocker'),
    line.replace("exec 'sh'", "'sh'"),
    line.replace("exec 'sh'", "exec 'bash'"),
    line.replace("exec 'sh'", "exec 'sudo' 'sh'"),
    `${line} 'x`,
    `${line}\n`,
    `${line} '${'x'.repeat(130_000)}'`,
    `${line} '\0'`,
  ];
  for (const other of others) t.is(readWrappedCommand(other), undefined, other.slice(-60));
});
