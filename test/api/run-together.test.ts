import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { readTogether, readTogetherArgv, togetherArgv } from '../../src/api/together-script.js';
import { runTogether } from '../../src/plugin.js';
import { togetherAnswer } from '../../src/sandbox/together-command.js';
import { errorOf, installHanging, ownSshd, shellFor, testFolder } from '../ssh/shell-for.js';
import { openSandbox } from '../support/open-sandbox.js';
import { testWithSshd } from '../support/sshd.js';

const LIMITS = { timeoutMs: 60_000, maxOutputBytes: 1_000, signal: new AbortController().signal };

testWithSshd('programs run at the same time, each with what it wrote and how it ended', async (t) => {
  const folder = await testFolder(t);
  // Each of the two waits for the other one.
  const meet = (mine: string, other: string) =>
    `mkfifo ${folder}/${mine} 2>/dev/null; mkfifo ${folder}/${other} 2>/dev/null; echo there >${folder}/${mine} & cat ${folder}/${other}`;
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const { outputs, began, ended } = await runTogether(
    shell,
    sshd.address,
    [
      ['echo', `$HOME 'a  "b" * \\n;`, ''],
      ['sh', '-c', 'echo out; echo err >&2; echo more >&2; exit 9'],
      ['sh', '-c', meet('one', 'two')],
      ['sh', '-c', meet('two', 'one')],
      ['no-such-program', 'x'],
      ['printf', '%s', 'no line break'],
      ['sh', '-c', 'kill -9 $$'],
      ['cat'],
    ],
    LIMITS,
  );
  const [words, failing, one, two, missing, unended, killed, reading] = outputs;
  t.is(words.stdout, `$HOME 'a  "b" * \\n; \n`);
  t.like(failing, { stdout: 'out\n', stderr: 'err\nmore\n' });
  t.is(
    failing.failure?.message,
    `sh on ${sshd.address} failed with exit status 9: more`,
    'the last line is the reason',
  );
  t.like(failing.failure, { code: 'command_failed', details: { exitStatus: 9, stderr: 'err\nmore\n' } });
  t.deepEqual([one.stdout, two.stdout], ['there\n', 'there\n']);
  t.is(missing.failure?.message, `no-such-program on ${sshd.address} failed: it is not installed`);
  t.like(missing.failure?.details, { exitStatus: 127 });
  t.is(unended.stdout, 'no line break');
  t.like(killed.failure?.details, { exitStatus: 137 });
  t.like(reading, { stdout: '', failure: undefined }, 'standard input is empty');
  t.true((began?.ms ?? Infinity) <= (ended?.ms ?? 0));
});

testWithSshd('a program that hangs or writes too much costs only itself', async (t) => {
  const folder = await testFolder(t);
  await installHanging(folder, 'hangs');
  await writeFile(join(folder, 'endless'), '#!/bin/sh\nexec yes\n', { mode: 0o755 });
  const sshd = await ownSshd(t, { environment: { PATH: `${folder}:/usr/bin:/bin` } });
  const shell = await shellFor(t, [sshd]);
  const { outputs } = await runTogether(
    shell,
    sshd.address,
    [['echo', 'first'], ['hangs'], ['endless'], ['echo', 'last']],
    { ...LIMITS, timeoutMs: 1_000 },
  );
  const [first, hangs, endless, last] = outputs;
  t.deepEqual([first.stdout, last.stdout], ['first\n', 'last\n']);
  t.is(hangs.failure?.code, 'timeout');
  t.is(hangs.failure?.message, `hangs on ${sshd.address} took longer than 1 s`);
  t.like(endless, { truncated: true, failure: undefined });
  t.false(last.truncated);
});

testWithSshd('the error is that of the connection when nothing was run', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd], { user: 'nobody-of-this-name' });
  const error = await errorOf(runTogether(shell, sshd.address, [['true']], LIMITS));
  t.is(error.code, 'login_refused');
});

test('a simulated machine answers programs that run together as it answers each of them', async (t) => {
  const { sandbox } = await openSandbox(t, { ssh: true });
  const { ssh } = sandbox;
  if (ssh === undefined) throw new Error('the sandbox has no SSH');
  const [host = ''] = ssh.hosts;
  ssh.on(['df', '/'], { stdout: 'full\n', stderr: 'a warning\n', status: 3 });
  const shell = await shellFor(t, [], {
    user: ssh.user,
    port: ssh.port,
    privateKey: await readFile(ssh.privateKeyFile),
    knownHosts: await readFile(ssh.knownHostsFile, 'utf8'),
  });
  const { outputs } = await runTogether(
    shell,
    host,
    [
      ['cat', '/etc/os-release'],
      ['df', '/'],
      ['podman', 'version'],
    ],
    LIMITS,
  );
  const [os, df, podman] = outputs;
  t.regex(os.stdout, /^ID=coreos$/m);
  t.is(os.failure, undefined);
  t.like(df, { stdout: 'full\n', stderr: 'a warning\n' });
  t.like(df.failure?.details, { exitStatus: 3 });
  t.like(podman.failure?.details, { exitStatus: 127 });
  t.deepEqual(
    ssh.commands.map(({ argv }) => argv.join(' ')),
    ['cat /etc/os-release', 'df /', 'podman version'],
  );
});

const MARK = '0123456789abcdef';

const word = fc.string({ unit: 'binary' }).filter((text) => !text.includes('\0'));
const program = fc
  .tuple(fc.string({ minLength: 1 }), fc.array(word))
  .map(([name, args]) => [name, ...args] as [string, ...string[]]);

test('the programs of a command are read as they were written, and so are their outputs', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ program, stdout: fc.string(), stderr: fc.string(), status: fc.nat({ max: 255 }) }),
        ),
        (each) => {
          const command = {
            programs: each.map((one) => one.program),
            mark: MARK,
            seconds: 9,
            bytes: 10_000,
          };
          const read = readTogetherArgv(togetherArgv(command));
          t.deepEqual(read, command);
          const { stdout: text = '' } = togetherAnswer(command, each, 5_500);
          const { sections, began } = readTogether(text, command.mark);
          t.deepEqual(
            [...sections.values()],
            each.map(({ stdout, stderr, status }) => ({ stdout, stderr, status })),
          );
          t.deepEqual(began, { ms: 5_500, precisionMs: 1 });
        },
      ),
    ),
  );
});

test('of an output that was cut anywhere, only programs that had ended are read', (t) => {
  const mark = MARK;
  const command = { programs: [['a'], ['b']] as [string][], mark, seconds: 9, bytes: 100 };
  const answers = [
    { stdout: 'one\n', status: 124 },
    { stdout: 'two\n', stderr: 'why', status: 101 },
  ];
  const { stdout: text = '' } = togetherAnswer(command, answers, 5_500);
  const whole = readTogether(text, mark);
  t.is(whole.sections.size, 2);
  for (let length = 0; length < text.length; length += 1) {
    const { sections, ended } = readTogether(text.slice(0, length), mark);
    for (const [number, section] of sections) t.deepEqual(section, whole.sections.get(number));
    t.is(ended, undefined);
  }
  t.deepEqual(readTogether(`${mark}b17.%N\n`, mark).began, { ms: 17_000, precisionMs: 1_000 }, 'busybox');
  t.is(readTogether(`${mark}b${'9'.repeat(400)}\n`, mark).began, undefined);
});
