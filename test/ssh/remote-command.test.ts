import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import { MarkedOutput } from '../../src/ssh/marked-output.js';
import { marksOf, remoteCommand } from '../../src/ssh/remote-command.js';
import { pidIn, processEnd, stayingCommand, testFolder } from './shell-for.js';

type Argv = [string, ...string[]];

const MARK = '0f1e2d3c';
const SHELLS = ['dash', 'bash', 'zsh', 'mksh', 'ksh', 'fish', 'tcsh'].filter(
  (name) => spawnSync(name, ['-c', 'true']).status === 0,
);
/** Those of the shells that can be `sh` of a machine. */
const POSIX_SHELLS = SHELLS.filter((name) => ['dash', 'bash', 'mksh'].includes(name));

/** Runs the command as sshd does: in the user's shell, as one line of text; stdin stays open. */
function start(shells: { login: string; sh: string }, argv: Argv, limitSeconds = 60): ChildProcess {
  const command = remoteCommand(argv, { mark: MARK, limitSeconds, sudo: false });
  const line = command.replace("exec 'sh'", `exec '${shells.sh}'`);
  return spawn(shells.login, ['-c', line], { stdio: ['pipe', 'pipe', 'pipe'] });
}

async function ended(child: ChildProcess) {
  const marks = marksOf(MARK);
  const stdout = new MarkedOutput(marks.stdout, 1_000_000);
  const stderr = new MarkedOutput(marks.stderr, 1_000_000);
  child.stdout?.on('data', (chunk: Buffer) => stdout.add(chunk));
  child.stderr?.on('data', (chunk: Buffer) => stderr.add(chunk));
  const status = await new Promise((resolve) => child.once('close', resolve));
  return { stdout: stdout.text(), stderr: stderr.text(), status, told: stdout.exitStatus };
}

for (const login of SHELLS) {
  test(`${login} as login shell passes every argument on`, async (t) => {
    const words = [
      "it's",
      'a\nb',
      'x!y!!',
      '\\',
      '\\0101',
      '$HOME',
      '"q"',
      '`id`',
      'é漢🙂',
      '%s%b',
      '',
      '~',
      '*',
      '#c',
      '\t\u0001',
      '^a^b',
      '{a,b}',
      'end\n',
    ];
    const child = start({ login, sh: 'sh' }, ['printf', '%s\\0', ...words]);
    const { stdout, status } = await ended(child);
    t.is(status, 0);
    t.deepEqual(stdout.split('\0').slice(0, -1), words);
  });

  test(`${login} as login shell does not pass its environment on, except for the search path and the user`, async (t) => {
    const { stdout } = await ended(start({ login, sh: 'sh' }, ['env']));
    const names = stdout
      .trim()
      .split('\n')
      .map((line) => line.replace(/=.*/, ''));
    t.deepEqual(names.toSorted(), ['HOME', 'LC_ALL', 'LOGNAME', 'PATH', 'TZ', 'USER']);
  });

  test(`${login} as login shell passes the exit status and both outputs on`, async (t) => {
    const child = start({ login, sh: 'sh' }, ['sh', '-c', 'echo out; echo err >&2; exit 7']);
    t.deepEqual(await ended(child), { stdout: 'out\n', stderr: 'err\n', status: 7, told: 7 });
  });
}

for (const sh of POSIX_SHELLS) {
  const shells = { login: sh, sh };

  test(`${sh}: output and exit status are the command's own`, async (t) => {
    const child = start(shells, ['sh', '-c', 'echo "$1"; echo err >&2; exit 7', 'sh', "it's $HOME"]);
    t.deepEqual(await ended(child), { stdout: "it's $HOME\n", stderr: 'err\n', status: 7, told: 7 });
  });

  test(`${sh}: a command that a signal ended has status 128 + N, and nothing is printed about it`, async (t) => {
    // Repeatedly: the test is whether it has ended before the shell reaches its next line.
    for (let n = 0; n < 40; n += 1) {
      const end = await ended(start(shells, ['sh', '-c', 'kill -9 $$']));
      t.deepEqual(end, { stdout: '', stderr: '', status: 137, told: 137 });
    }
  });

  test(`${sh}: a missing program has status 127, and stderr says so`, async (t) => {
    const { status, stderr } = await ended(start(shells, ['no-such-program']));
    t.is(status, 127);
    t.regex(stderr, /no-such-program/);
  });

  test(`${sh}: the command reads an empty stdin`, async (t) => {
    t.deepEqual(await ended(start(shells, ['cat'])), { stdout: '', stderr: '', status: 0, told: 0 });
  });

  test(`${sh}: closing stdin ends the command`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const child = start(shells, stayingCommand(pidFile));
    const pid = await pidIn(pidFile);
    child.stdin?.end();
    t.is((await ended(child)).status, 143);
    await processEnd(pid);
  });

  test(`${sh}: closing stdin immediately ends the command too`, async (t) => {
    const child = start(shells, ['sleep', '600']);
    child.stdin?.end();
    t.is((await ended(child)).status, 143);
  });

  test(`${sh}: a command that ignores TERM is killed`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const script = 'trap "" TERM; echo $$ > "$0"; while :; do sleep 0.1; done';
    const child = start(shells, ['sh', '-c', script, pidFile]);
    const pid = await pidIn(pidFile);
    child.stdin?.end();
    t.is((await ended(child)).status, 137);
    await processEnd(pid);
  });

  test(`${sh}: background processes of the command end with it`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const script = '(trap "" TERM; exec sleep 600) & echo $! > "$0"; echo done';
    const child = start(shells, ['sh', '-c', script, pidFile]);
    t.deepEqual(await ended(child), { stdout: 'done\n', stderr: '', status: 0, told: 0 });
    await processEnd(await pidIn(pidFile));
  });

  test(`${sh}: an error of the shell itself shows neither the script nor a mark`, async (t) => {
    // Started by a network daemon, bash reads the user's .bashrc, which needs files too.
    const env = { ...process.env, HOME: await testFolder(t) };
    const command = remoteCommand(['true'], { mark: MARK, limitSeconds: 60, sudo: false });
    // So few files that the shell cannot make a pipe.
    const line = `ulimit -n 4; ${command.replace("exec 'sh'", `exec '${sh}'`)}`;
    const { stdout, stderr } = spawnSync(sh, ['-c', line], { encoding: 'utf8', env });
    t.is(stdout, '');
    t.regex(stderr, /^sh: .*\n$/);
    t.false(stderr.includes(MARK));
  });

  test(`${sh}: the host ends the command when its limit is over`, async (t) => {
    t.is((await ended(start(shells, ['sleep', '600'], 1))).status, 124);
  });
}

test('arguments that are too long for one command line are refused', (t) => {
  const options = { mark: MARK, limitSeconds: 1, sudo: false };
  const error = t.throws(() => remoteCommand(['echo', 'x'.repeat(130_000)], options), {
    instanceOf: ActionError,
  });
  t.is(error?.code, 'invalid_parameters');
});
